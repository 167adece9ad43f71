// A path tracer that renders one rectangle of one picture.
//
// stdin:   width height x0 y0 x1 y1 samples      seven decimal numbers; the rectangle is x0 <= x < x1, y0 <= y < y1
// stdout:  (x1 - x0) * (y1 - y0) pixels, row by row, three bytes each: red, green, blue in sRGB
// exit:    0, or 2 with a sentence on stderr
//
// Every random number is a hash of (pixel, sample, dimension), so that a pixel comes out the same however the picture is
// cut into rectangles. Floats are used with +, -, *, / and sqrt only: the bytes are the same on every machine.

#include <stdint.h>
#include <unistd.h>

// ---------------------------------------------------------------------------------------------------------- arithmetic

typedef struct { float x, y, z; } Vec;

static Vec vec(float x, float y, float z) { return (Vec){x, y, z}; }
static Vec add(Vec a, Vec b) { return vec(a.x + b.x, a.y + b.y, a.z + b.z); }
static Vec sub(Vec a, Vec b) { return vec(a.x - b.x, a.y - b.y, a.z - b.z); }
static Vec mul(Vec a, Vec b) { return vec(a.x * b.x, a.y * b.y, a.z * b.z); }
static Vec scale(Vec a, float s) { return vec(a.x * s, a.y * s, a.z * s); }
static Vec along(Vec origin, Vec direction, float t) { return add(origin, scale(direction, t)); }
static Vec mix(Vec a, Vec b, float t) { return add(scale(a, 1 - t), scale(b, t)); }
static float dot(Vec a, Vec b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
static float root(float v) { return __builtin_sqrtf(v); }
static float least(float a, float b) { return a < b ? a : b; }
static float most(float a, float b) { return a > b ? a : b; }
static Vec unit(Vec a) { return scale(a, 1 / root(dot(a, a))); }
static Vec cross(Vec a, Vec b) {
    return vec(a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x);
}
static float brightest(Vec a) { return most(a.x, most(a.y, a.z)); }

// Cosine and sine of a whole turn times u, 0 <= u < 1, by Taylor's series on an eighth of a turn.
static void circle(float u, float *cosine, float *sine) {
    int quarter = (int)(u * 4 + 0.5f);
    float a = (u - quarter * 0.25f) * 6.2831853f, b = a * a;
    float c = 1 - b * (0.5f - b * (1 / 24.0f - b * (1 / 720.0f)));
    float s = a * (1 - b * (1 / 6.0f - b * (1 / 120.0f - b * (1 / 5040.0f))));
    switch (quarter & 3) {
    case 0: *cosine = c, *sine = s; break;
    case 1: *cosine = -s, *sine = c; break;
    case 2: *cosine = -c, *sine = -s; break;
    default: *cosine = s, *sine = -c;
    }
}

// Two directions that with the unit vector n make a right-handed frame (Duff and others, 2017).
static void frame(Vec n, Vec *s, Vec *t) {
    float sign = n.z < 0 ? -1 : 1, a = -1 / (sign + n.z), b = n.x * n.y * a;
    *s = vec(1 + sign * n.x * n.x * a, sign * b, -sign * n.x);
    *t = vec(b, sign + n.y * n.y * a, -n.y);
}

// -------------------------------------------------------------------------------------------------------------- chance

static uint32_t hash(uint32_t v) {
    v ^= v >> 16, v *= 0x7feb352du;
    v ^= v >> 15, v *= 0x846ca68bu;
    return v ^ v >> 16;
}

static uint32_t reversed(uint32_t v) {
    v = v >> 16 | v << 16;
    v = (v & 0x00ff00ffu) << 8 | (v >> 8 & 0x00ff00ffu);
    v = (v & 0x0f0f0f0fu) << 4 | (v >> 4 & 0x0f0f0f0fu);
    v = (v & 0x33333333u) << 2 | (v >> 2 & 0x33333333u);
    return (v & 0x55555555u) << 1 | (v >> 1 & 0x55555555u);
}

// Owen's scrambling of a number whose bits are reversed (Laine and Karras, 2011).
static uint32_t scrambled(uint32_t v, uint32_t seed) {
    v += seed;
    v ^= v * 0x6c50b47cu, v ^= v * 0xb82f1e52u;
    v ^= v * 0xc7afe638u, v ^= v * 0x8d22f6e6u;
    return v;
}

typedef struct { float u, v; } Pair;

typedef struct { uint32_t seed, index; } Chance;

// The next two numbers in [0, 1): the sample's point of a Sobol sequence, shuffled and scrambled for this pixel and use,
// so that the samples of a pixel cover every pair of dimensions evenly (Burley, 2020).
static Pair next(Chance *chance) {
    uint32_t seed = chance->seed = hash(chance->seed + 0x9e3779b9u);
    uint32_t index = reversed(scrambled(reversed(chance->index), seed));
    uint32_t x = reversed(index), y = 0;
    for (uint32_t direction = 0x80000000u, i = index; i; i >>= 1, direction ^= direction >> 1)
        if (i & 1) y ^= direction;
    x = reversed(scrambled(reversed(x), seed ^ 0xa511e9b3u));
    y = reversed(scrambled(reversed(y), seed ^ 0x63d83595u));
    return (Pair){(x >> 8) * 0x1p-24f, (y >> 8) * 0x1p-24f};
}

// --------------------------------------------------------------------------------------------------------------- scene

typedef enum { MATTE, GLAZED, METAL, GLASS, LIGHT, FLOOR } Kind;

typedef struct {
    Kind kind;
    Vec color;   // reflected or let through; of a light: emitted
    float rough; // of metal: 0 is a mirror
} Material;

typedef struct {
    Vec center;
    float radius; // below zero: seen from inside, a bubble in glass
    Material material;
} Sphere;

typedef struct { Vec low, high; int first, count, skip; } Box; // a node of the tree; leaves have a count

enum { MAX_SPHERES = 128, LIGHTS = 4, LEAF = 3, MAX_BOUNCES = 12, MAX_SIDE = 16384 };

static Sphere spheres[MAX_SPHERES]; // the lights first
static int sphere_count;
static Box boxes[2 * MAX_SPHERES];
static int box_count;
static int order[MAX_SPHERES]; // spheres as the tree's leaves list them

static const Vec HORIZON = {0.74f, 0.40f, 0.27f}, ZENITH = {0.035f, 0.085f, 0.24f}, HAZE = {0.68f, 0.42f, 0.33f};

static void put(Vec center, float radius, Kind kind, Vec color, float rough) {
    spheres[sphere_count++] = (Sphere){center, radius, {kind, color, rough}};
}

static Vec extent_low(const Sphere *s) {
    float r = s->radius < 0 ? -s->radius : s->radius;
    return vec(s->center.x - r, s->center.y - r, s->center.z - r);
}

static Vec extent_high(const Sphere *s) {
    float r = s->radius < 0 ? -s->radius : s->radius;
    return vec(s->center.x + r, s->center.y + r, s->center.z + r);
}

static float axis_of(Vec v, int axis) { return axis == 0 ? v.x : axis == 1 ? v.y : v.z; }

// Builds the tree over order[first .. first + count]: halves by the widest axis, depth first, each node knowing where the
// next one outside of it is.
static void build(int first, int count) {
    int self = box_count++;
    Vec low = vec(1e9f, 1e9f, 1e9f), high = vec(-1e9f, -1e9f, -1e9f);
    for (int i = first; i < first + count; i++) {
        Vec l = extent_low(&spheres[order[i]]), h = extent_high(&spheres[order[i]]);
        low = vec(least(low.x, l.x), least(low.y, l.y), least(low.z, l.z));
        high = vec(most(high.x, h.x), most(high.y, h.y), most(high.z, h.z));
    }
    boxes[self] = (Box){low, high, first, count <= LEAF ? count : 0, 0};
    if (count > LEAF) {
        Vec size = sub(high, low);
        int axis = size.x > size.y ? (size.x > size.z ? 0 : 2) : (size.y > size.z ? 1 : 2);
        for (int i = first + 1; i < first + count; i++)
            for (int j = i; j > first; j--) {
                int a = order[j - 1], b = order[j];
                if (axis_of(spheres[a].center, axis) <= axis_of(spheres[b].center, axis)) break;
                order[j - 1] = b, order[j] = a;
            }
        build(first, count / 2);
        build(first + count / 2, count - count / 2);
    }
    boxes[self].skip = box_count;
}

static void scatter_marbles(void) {
    static const struct { Kind kind; Vec color; float rough; } GLAZES[8] = {
        {GLAZED, {0.80f, 0.16f, 0.10f}, 0}, {GLAZED, {0.95f, 0.55f, 0.08f}, 0}, {GLAZED, {0.05f, 0.30f, 0.42f}, 0},
        {MATTE, {0.82f, 0.78f, 0.70f}, 0},  {METAL, {0.95f, 0.64f, 0.54f}, 0.15f}, {GLASS, {0.98f, 0.98f, 0.98f}, 0},
        {GLASS, {0.55f, 0.90f, 0.80f}, 0},  {METAL, {0.91f, 0.92f, 0.92f}, 0.05f},
    };
    uint32_t seed = 20;
    for (int tries = 0; tries < 4000 && sphere_count < 78; tries++) {
        float random[4];
        for (int i = 0; i < 4; i++) random[i] = ((seed = hash(seed + 0x9e3779b9u)) >> 8) * 0x1p-24f;
        float radius = 0.13f + 0.20f * random[2] * random[2];
        Vec center = vec(-6.0f + 12.0f * random[0], radius, -6.5f + 10.0f * random[1]);
        int free = 1;
        for (int i = 0; i < sphere_count && free; i++) {
            Vec apart = sub(spheres[i].center, center);
            float room = spheres[i].radius + radius + 0.06f;
            free = dot(apart, apart) > room * room;
        }
        int glaze = (int)(random[3] * 8);
        if (free) put(center, radius, GLAZES[glaze].kind, GLAZES[glaze].color, GLAZES[glaze].rough);
    }
}

static void set_scene(void) {
    put(vec(-6.5f, 8.5f, 3.5f), 3.2f, LIGHT, vec(7.6f, 6.3f, 4.7f), 0);
    put(vec(-1.15f, 0.24f, 2.15f), 0.24f, LIGHT, vec(11.0f, 5.2f, 1.4f), 0);
    put(vec(3.05f, 0.20f, 1.30f), 0.20f, LIGHT, vec(1.4f, 6.5f, 9.0f), 0);
    put(vec(-3.9f, 0.22f, 0.9f), 0.22f, LIGHT, vec(9.0f, 1.6f, 4.6f), 0);

    put(vec(0.15f, 1.0f, 0.35f), 1.0f, GLASS, vec(1, 1, 1), 0);
    put(vec(-2.25f, 1.1f, -1.0f), 1.1f, METAL, vec(1.0f, 0.76f, 0.34f), 0.04f);
    put(vec(2.35f, 0.95f, -0.75f), 0.95f, GLAZED, vec(0.62f, 0.03f, 0.045f), 0);
    put(vec(0.55f, 1.6f, -3.6f), 1.6f, METAL, vec(0.93f, 0.94f, 0.96f), 0);
    put(vec(-4.5f, 1.0f, -3.6f), 1.0f, GLAZED, vec(0.03f, 0.22f, 0.36f), 0);
    scatter_marbles();

    for (int i = 0; i < sphere_count; i++) order[i] = i;
    build(0, sphere_count);
}

// ------------------------------------------------------------------------------------------------------------- geometry

enum { NOTHING = -1, GROUND = -2 };

// The nearest thing that the ray meets before *t, which becomes its distance. With `any`, whatever is met first.
static int meet(Vec origin, Vec direction, float *t, int any) {
    int found = NOTHING;
    Vec inverse = vec(1 / direction.x, 1 / direction.y, 1 / direction.z);
    if (!any && direction.y < 0) {
        float ground = -origin.y * inverse.y;
        if (ground > 1e-3f && ground < *t) *t = ground, found = GROUND;
    }
    for (int node = 0; node < box_count;) {
        const Box *box = &boxes[node];
        float x0 = (box->low.x - origin.x) * inverse.x, x1 = (box->high.x - origin.x) * inverse.x;
        float y0 = (box->low.y - origin.y) * inverse.y, y1 = (box->high.y - origin.y) * inverse.y;
        float z0 = (box->low.z - origin.z) * inverse.z, z1 = (box->high.z - origin.z) * inverse.z;
        float enter = most(most(least(x0, x1), least(y0, y1)), least(z0, z1));
        float leave = least(least(most(x0, x1), most(y0, y1)), most(z0, z1));
        if (!(enter <= leave && leave > 0 && enter < *t)) {
            node = box->skip;
            continue;
        }
        for (int i = box->first; i < box->first + box->count; i++) {
            const Sphere *s = &spheres[order[i]];
            Vec to = sub(s->center, origin);
            float middle = dot(to, direction);
            Vec miss = sub(to, scale(direction, middle));
            float square = s->radius * s->radius - dot(miss, miss);
            if (square <= 0) continue;
            float half = root(square), at = middle - half;
            if (at < 2e-3f) at = middle + half;
            if (at > 2e-3f && at < *t) {
                *t = at, found = order[i];
                if (any) return found;
            }
        }
        node++;
    }
    return found;
}

static Vec sky(Vec direction) {
    float up = most(direction.y, 0), high = root(up);
    Vec color = mix(HORIZON, ZENITH, least(1, high * 1.55f));
    // A glow where the sun has gone down, behind the spheres on the right.
    float toward = most(0, dot(direction, vec(0.55f, 0.08f, -0.831f)));
    float glow = toward * toward, glow4 = glow * glow, glow16 = glow4 * glow4 * glow4 * glow4;
    return add(color, scale(vec(1.0f, 0.52f, 0.22f), 0.9f * glow16 + 0.25f * glow4));
}

static Material floor_at(Vec p) {
    int odd = ((int)(p.x + 1000) + (int)(p.z + 1000)) & 1;
    return (Material){FLOOR, odd ? vec(0.70f, 0.67f, 0.61f) : vec(0.045f, 0.06f, 0.075f), 0};
}

// ---------------------------------------------------------------------------------------------------------------- light

// Most light that one path may bring by way of a matte surface: fewer sparks for a little less light.
static const float SPARK = 2.5f;

static Vec reflected(Vec d, Vec n) { return sub(d, scale(n, 2 * dot(d, n))); }

// Share of light that a smooth surface throws back; eta is the index it comes from over the one it meets.
static float fresnel(float cosine, float eta) {
    float sine2 = eta * eta * (1 - cosine * cosine);
    if (sine2 >= 1) return 1;
    float inner = root(1 - sine2);
    float s = (eta * cosine - inner) / (eta * cosine + inner), p = (cosine - eta * inner) / (cosine + eta * inner);
    return 0.5f * (s * s + p * p);
}

static Vec around(Vec n, float cosine, float turn) {
    float c, s, sine = root(most(0, 1 - cosine * cosine));
    Vec x, y;
    circle(turn, &c, &s);
    frame(n, &x, &y);
    return add(scale(n, cosine), add(scale(x, sine * c), scale(y, sine * s)));
}

// Light that reaches p straight from one lamp, chosen by what each could send at most, over a matte surface of color 1.
static Vec lamps(Vec p, Vec n, Chance *chance) {
    float weights[LIGHTS], total = 0;
    for (int i = 0; i < LIGHTS; i++) {
        Vec to = sub(spheres[i].center, p);
        float r2 = spheres[i].radius * spheres[i].radius, d2 = dot(to, to);
        // A lamp wholly below the horizon sends nothing.
        int above = dot(to, n) > -spheres[i].radius;
        weights[i] = above ? brightest(spheres[i].material.color) * r2 / most(d2, r2) : 0;
        total += weights[i];
    }
    Pair choice = next(chance), place = next(chance);
    float pick = choice.u * total;
    int chosen = 0;
    while (chosen < LIGHTS - 1 && pick >= weights[chosen]) pick -= weights[chosen++];
    if (weights[chosen] <= 0) return vec(0, 0, 0);

    const Sphere *lamp = &spheres[chosen];
    Vec to = sub(lamp->center, p);
    float d2 = dot(to, to), sine2 = lamp->radius * lamp->radius / d2;
    if (sine2 >= 1) return vec(0, 0, 0);
    float widest = root(1 - sine2), cap = sine2 / (1 + widest); // 1 - cosine of the lamp's half angle
    float cosine = 1 - place.u * cap;
    Vec direction = around(unit(to), cosine, place.v);
    float slope = dot(direction, n);
    if (slope <= 0) return vec(0, 0, 0);
    // Up to just before the lamp's near side; lamps and p are above the ground, which cannot be between.
    float middle = dot(to, direction), half = root(most(0, lamp->radius * lamp->radius - d2 + middle * middle));
    float t = (middle - half) * 0.998f;
    if (meet(p, direction, &t, 1) != NOTHING) return vec(0, 0, 0);
    // Matte reflection 1/pi, times the solid angle 2 pi cap, over the chance of this lamp.
    return scale(lamp->material.color, slope * 2 * cap * total / weights[chosen]);
}

// Whether this path follows the reflected light, of which there is `shine`, or the rest. Reflections of lamps are few and
// bright, so `extra` more paths look for them than there is light, and count for less.
static int divide(float shine, float extra, float random, Vec *share) {
    float chance = shine + extra * (1 - shine);
    if (random < chance) {
        *share = scale(*share, shine / chance);
        return 1;
    }
    if (extra > 0) *share = scale(*share, (1 - shine) / (1 - chance));
    return 0;
}

static Vec trace(Vec origin, Vec direction, Chance *chance) {
    Vec light = vec(0, 0, 0), share = vec(1, 1, 1);
    int mirrored = 1; // whether the last surface could not ask the lamps itself
    int matte = 0;    // whether any surface so far could
    for (int bounce = 0; bounce < MAX_BOUNCES; bounce++) {
        float t = 1e9f;
        int thing = meet(origin, direction, &t, 0);
        Vec seen = vec(0, 0, 0);
        if (thing == NOTHING) {
            seen = sky(direction);
        } else if (thing >= 0 && spheres[thing].material.kind == LIGHT && mirrored) {
            seen = spheres[thing].material.color;
        }
        if (thing == NOTHING || (thing >= 0 && spheres[thing].material.kind == LIGHT)) {
            Vec got = mul(share, seen);
            float top = brightest(got), most_allowed = matte ? SPARK : 30.0f;
            return add(light, top > most_allowed ? scale(got, most_allowed / top) : got);
        }

        Vec p = along(origin, direction, t), n, outward;
        Material m;
        if (thing == GROUND) {
            n = outward = vec(0, 1, 0), m = floor_at(p);
            float far = p.x * p.x + p.z * p.z, haze = far / (far + 2600);
            light = add(light, scale(mul(share, HAZE), haze * 0.9f));
            share = scale(share, 1 - haze);
        } else {
            outward = scale(sub(p, spheres[thing].center), 1 / spheres[thing].radius), m = spheres[thing].material;
            n = dot(outward, direction) < 0 ? outward : scale(outward, -1);
        }
        float cosine = least(1, -dot(direction, n));
        Pair r = next(chance);
        mirrored = 1;
        if (m.kind == METAL) {
            Vec ideal = reflected(direction, n);
            if (m.rough > 0) ideal = unit(along(ideal, around(n, 1 - 2 * r.u, r.v), m.rough));
            if (dot(ideal, n) <= 0) return light;
            float edge = 1 - cosine, edge2 = edge * edge;
            share = mul(share, mix(m.color, vec(1, 1, 1), edge2 * edge2 * edge));
            direction = ideal;
        } else if (m.kind == GLASS) {
            int entering = dot(outward, direction) < 0;
            float eta = entering ? 1 / 1.5f : 1.5f;
            if (divide(fresnel(cosine, eta), matte ? 0 : 0.12f, r.u, &share)) {
                direction = reflected(direction, n);
            } else {
                float inner = root(most(0, 1 - eta * eta * (1 - cosine * cosine)));
                direction = unit(add(scale(direction, eta), scale(n, eta * cosine - inner)));
                share = mul(share, m.color);
            }
        } else {
            float shine = m.kind == MATTE ? 0 : fresnel(cosine, 1 / 1.5f) * (m.kind == FLOOR ? 0.8f : 1);
            if (divide(shine, matte || shine <= 0 ? 0 : 0.3f, r.u, &share)) {
                direction = reflected(direction, n);
            } else {
                share = mul(share, m.color);
                Vec direct = mul(share, lamps(p, n, chance));
                float top = brightest(direct);
                light = add(light, matte && top > SPARK ? scale(direct, SPARK / top) : direct);
                Pair where = next(chance);
                direction = around(n, root(1 - where.u), where.v);
                mirrored = 0, matte = 1;
            }
        }
        origin = p;
        if (bounce >= 3) {
            float alive = least(0.95f, brightest(share));
            if (next(chance).u >= alive) return light;
            share = scale(share, 1 / alive);
        }
    }
    return light;
}

// --------------------------------------------------------------------------------------------------------------- camera

typedef struct { Vec eye, across, up, ahead; float focus, lens; } Camera;

static Camera camera(void) {
    Vec eye = vec(0.6f, 2.1f, 8.6f), at = vec(0.05f, 0.82f, 0.0f);
    Vec ahead = unit(sub(at, eye)), across = unit(cross(ahead, vec(0, 1, 0)));
    return (Camera){eye, across, cross(across, ahead), ahead, 8.0f, 0.085f};
}

static Vec pixel(const Camera *cam, int width, int height, int x, int y, int samples) {
    Vec sum = vec(0, 0, 0);
    uint32_t seed = hash((uint32_t)y * MAX_SIDE + (uint32_t)x + 1);
    float size = 0.56f / (float)height; // height of the picture at distance 1, over its pixels
    for (int i = 0; i < samples; i++) {
        Chance chance = {seed, (uint32_t)i};
        Pair in = next(&chance), lens = next(&chance);
        float right = ((float)x + in.u - 0.5f * (float)width) * size;
        float above = (0.5f * (float)height - (float)y - in.v) * size;
        Vec through = scale(along(along(cam->ahead, cam->across, right), cam->up, above), cam->focus);
        float c, s, r = cam->lens * root(lens.u);
        circle(lens.v, &c, &s);
        Vec shift = add(scale(cam->across, r * c), scale(cam->up, r * s));
        sum = add(sum, trace(add(cam->eye, shift), unit(sub(through, shift)), &chance));
    }
    return scale(sum, 1 / (float)samples);
}

static float thresholds[256]; // thresholds[i]: from here on light is byte i or more

// sRGB's curve turned around: ((i - 1/2) / 255 + 0.055) / 1.055, to the power 12/5, by Newton's method for a fifth root.
static void set_curve(void) {
    for (int i = 1; i < 256; i++) {
        double e = ((double)i - 0.5) / 255, v = (e + 0.055) / 1.055, square = v * v, fifth = 1;
        for (int step = 0; step < 60; step++) fifth -= (fifth - square / (fifth * fifth * fifth * fifth)) / 5;
        thresholds[i] = (float)(e <= 0.04045 ? e / 12.92 : square * fifth);
    }
}

static uint8_t encode(float v) {
    // Bends the brightest light like film does, so that lamps and highlights keep their colour (after Narkowicz, 2015).
    v *= 0.80f;
    v = v * (2.51f * v + 0.03f) / (v * (2.43f * v + 0.59f) + 0.14f);
    int byte = 0;
    for (int step = 128; step; step >>= 1)
        if (byte + step < 256 && v >= thresholds[byte + step]) byte += step;
    return (uint8_t)byte;
}

// --------------------------------------------------------------------------------------------------------------- in, out

static int put_bytes(int fd, const void *bytes, size_t count) {
    for (const uint8_t *at = bytes; count > 0;) {
        ssize_t done = write(fd, at, count);
        if (done <= 0) return 0;
        at += done, count -= (size_t)done;
    }
    return 1;
}

static int refuse(const char *sentence) {
    size_t length = 0;
    while (sentence[length]) length++;
    put_bytes(2, sentence, length);
    return 2;
}

static int take_numbers(int *numbers, int count) {
    char text[256];
    size_t length = 0;
    for (ssize_t got; length < sizeof text && (got = read(0, text + length, sizeof text - length)) > 0;)
        length += (size_t)got;
    size_t at = 0;
    for (int i = 0; i < count; i++) {
        while (at < length && (text[at] == ' ' || text[at] == '\n')) at++;
        if (at == length || text[at] < '0' || text[at] > '9') return 0;
        for (numbers[i] = 0; at < length && text[at] >= '0' && text[at] <= '9'; at++)
            if ((numbers[i] = numbers[i] * 10 + (text[at] - '0')) > 1000000) return 0;
    }
    while (at < length && (text[at] == ' ' || text[at] == '\n' || text[at] == '\r')) at++;
    return at == length;
}

int main(void) {
    static uint8_t row[MAX_SIDE * 3];
    int n[7];
    if (!take_numbers(n, 7)) return refuse("pathtracer: stdin must be: width height x0 y0 x1 y1 samples\n");
    int width = n[0], height = n[1], x0 = n[2], y0 = n[3], x1 = n[4], y1 = n[5], samples = n[6];
    if (width < 1 || height < 1 || width > MAX_SIDE || height > MAX_SIDE)
        return refuse("pathtracer: width and height must be between 1 and 16384\n");
    if (x0 >= x1 || y0 >= y1 || x1 > width || y1 > height)
        return refuse("pathtracer: the rectangle must lie in the picture and not be empty\n");
    if (samples < 1 || samples > 65536) return refuse("pathtracer: samples must be between 1 and 65536\n");

    set_scene();
    set_curve();
    Camera cam = camera();
    for (int y = y0; y < y1; y++) {
        uint8_t *at = row;
        for (int x = x0; x < x1; x++) {
            Vec color = pixel(&cam, width, height, x, y, samples);
            *at++ = encode(color.x), *at++ = encode(color.y), *at++ = encode(color.z);
        }
        if (!put_bytes(1, row, (size_t)(at - row))) return refuse("pathtracer: cannot write the pixels\n");
    }
    return 0;
}
