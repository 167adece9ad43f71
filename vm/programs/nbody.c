// Moves bodies under their gravity by the leapfrog method and reports how well energy is conserved (f64).
// usage: nbody [STEPS]
#include "common.h"
#include <math.h>

enum { BODIES = 32 };

struct body {
    double x, y, z, vx, vy, vz, mass;
};

// Keeps forces finite when bodies meet (Plummer 1911).
static const double SOFTENING = 1e-2;

static void accelerate(struct body *bodies, double dt) {
    for (int i = 0; i < BODIES; i++) {
        struct body *a = &bodies[i];
        for (int j = i + 1; j < BODIES; j++) {
            struct body *b = &bodies[j];
            double dx = a->x - b->x, dy = a->y - b->y, dz = a->z - b->z;
            double square = dx * dx + dy * dy + dz * dz + SOFTENING;
            double pull = dt / (square * sqrt(square));
            a->vx -= dx * b->mass * pull;
            a->vy -= dy * b->mass * pull;
            a->vz -= dz * b->mass * pull;
            b->vx += dx * a->mass * pull;
            b->vy += dy * a->mass * pull;
            b->vz += dz * a->mass * pull;
        }
    }
}

static void drift(struct body *bodies, double dt) {
    for (int i = 0; i < BODIES; i++) {
        bodies[i].x += dt * bodies[i].vx;
        bodies[i].y += dt * bodies[i].vy;
        bodies[i].z += dt * bodies[i].vz;
    }
}

static double energy(const struct body *bodies) {
    double sum = 0;
    for (int i = 0; i < BODIES; i++) {
        const struct body *a = &bodies[i];
        sum += a->mass * (a->vx * a->vx + a->vy * a->vy + a->vz * a->vz) / 2;
        for (int j = i + 1; j < BODIES; j++) {
            const struct body *b = &bodies[j];
            double dx = a->x - b->x, dy = a->y - b->y, dz = a->z - b->z;
            sum -= a->mass * b->mass / sqrt(dx * dx + dy * dy + dz * dz + SOFTENING);
        }
    }
    return sum;
}

int main(int argc, char **argv) {
    size_t steps = size_argument(argc, argv, 1000, 100000000);
    static struct body bodies[BODIES];
    for (int i = 0; i < BODIES; i++) {
        bodies[i].x = random_unit() - 0.5;
        bodies[i].y = random_unit() - 0.5;
        bodies[i].z = random_unit() - 0.5;
        bodies[i].vx = bodies[i].y / 2;
        bodies[i].vy = -bodies[i].x / 2;
        bodies[i].mass = (0.5 + random_unit()) / BODIES;
    }
    const double dt = 1e-4;
    double before = energy(bodies);
    for (size_t step = 0; step < steps; step++) {
        drift(bodies, dt / 2);
        accelerate(bodies, dt);
        drift(bodies, dt / 2);
    }
    double after = energy(bodies);
    printf("%d bodies, %zu steps: energy %.12f before, %.12f after\n", BODIES, steps, before, after);
    for (int i = 0; i < BODIES; i++) {
        absorb_f64(bodies[i].x);
        absorb_f64(bodies[i].y);
        absorb_f64(bodies[i].z);
    }
    return print_digest();
}
