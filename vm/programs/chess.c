// Counts the positions that chess games can reach in so many moves ("perft"), against published counts.
// usage: chess [DEPTH]
//
// The board is 0x88: 16 x 8 squares, of which those with bit 0x88 are outside.
#include "common.h"

enum { EMPTY, PAWN, KNIGHT, BISHOP, ROOK, QUEEN, KING, BLACK = 8 };
enum { A1 = 0, E1 = 4, H1 = 7, A8 = 112, E8 = 116, H8 = 119, NOWHERE = 128 };
enum { WHITE_SHORT = 1, WHITE_LONG = 2, BLACK_SHORT = 4, BLACK_LONG = 8 };

struct position {
    uint8_t board[128];
    uint8_t king[2];
    uint8_t castling;   // which are still allowed
    uint8_t en_passant; // the square behind a pawn that has just moved two
    uint8_t side;       // 0 or BLACK
};

struct move {
    uint8_t from, to;
    uint8_t promotion;
};

static const int8_t knight_steps[] = {-33, -31, -18, -14, 14, 18, 31, 33, 0};
static const int8_t bishop_steps[] = {-17, -15, 15, 17, 0};
static const int8_t rook_steps[] = {-16, -1, 1, 16, 0};
static const int8_t queen_steps[] = {-17, -16, -15, -1, 1, 15, 16, 17, 0};
static const int8_t *const steps_of[] = {NULL, NULL, knight_steps, bishop_steps, rook_steps, queen_steps, queen_steps};

static bool outside(int square) {
    return square & 0x88;
}

static bool slides(int kind) {
    return kind == BISHOP || kind == ROOK || kind == QUEEN;
}

// From Forsyth-Edwards notation, without its counters.
static struct position parse(const char *fen) {
    static const char letters[] = ".PNBRQK..pnbrqk";
    struct position position = {.en_passant = NOWHERE};
    for (int square = A8; *fen != ' '; fen++) {
        if (*fen == '/') {
            square -= 24;
        } else if (*fen >= '1' && *fen <= '8') {
            square += *fen - '0';
        } else {
            int piece = (int)(strchr(letters, *fen) - letters);
            if ((piece & 7) == KING) position.king[piece >> 3] = (uint8_t)square;
            position.board[square++] = (uint8_t)piece;
        }
    }
    position.side = fen[1] == 'b' ? BLACK : 0;
    for (fen += 3; *fen && *fen != ' '; fen++) {
        static const char rights[] = "KQkq";
        const char *right = strchr(rights, *fen);
        if (right) position.castling |= (uint8_t)(1 << (right - rights));
    }
    if (*fen && fen[1] != '-') position.en_passant = (uint8_t)(fen[1] - 'a' + 16 * (fen[2] - '1'));
    return position;
}

static bool attacked(const struct position *position, int square, int by) {
    int back = by == BLACK ? 16 : -16; // from where a pawn comes
    for (int side = -1; side <= 1; side += 2) {
        int from = square + back + side;
        if (!outside(from) && position->board[from] == (PAWN | by)) return true;
    }
    for (const int8_t *step = knight_steps; *step; step++) {
        int from = square + *step;
        if (!outside(from) && position->board[from] == (KNIGHT | by)) return true;
    }
    for (int i = 0; i < 8; i++) {
        int step = queen_steps[i], from = square + step;
        bool straight = step == 1 || step == -1 || step == 16 || step == -16;
        if (!outside(from) && position->board[from] == (KING | by)) return true;
        while (!outside(from) && !position->board[from]) from += step;
        if (outside(from) || (position->board[from] & BLACK) != by) continue;
        int kind = position->board[from] & 7;
        if (kind == QUEEN || kind == (straight ? ROOK : BISHOP)) return true;
    }
    return false;
}

static struct move *push(struct move *moves, int from, int to, int promotion) {
    *moves = (struct move){(uint8_t)from, (uint8_t)to, (uint8_t)promotion};
    return moves + 1;
}

static struct move *push_pawn(struct move *moves, int from, int to) {
    if (to >= A8 || to <= H1)
        for (int kind = KNIGHT; kind <= QUEEN; kind++) moves = push(moves, from, to, kind);
    else
        moves = push(moves, from, to, 0);
    return moves;
}

static struct move *pawn_moves(const struct position *position, struct move *moves, int from) {
    int forward = position->side ? -16 : 16, first_rank = position->side ? 6 : 1;
    int to = from + forward;
    if (!position->board[to]) {
        moves = push_pawn(moves, from, to);
        if (from >> 4 == first_rank && !position->board[to + forward]) moves = push(moves, from, to + forward, 0);
    }
    for (int side = -1; side <= 1; side += 2) {
        to = from + forward + side;
        if (outside(to)) continue;
        bool takes = position->board[to] && (position->board[to] & BLACK) != position->side;
        if (takes || to == position->en_passant) moves = push_pawn(moves, from, to);
    }
    return moves;
}

static struct move *castling_moves(const struct position *position, struct move *moves) {
    int king = position->side ? E8 : E1, enemy = position->side ^ BLACK;
    int rights = position->castling >> (position->side ? 2 : 0);
    const uint8_t *board = position->board;
    if (!(rights & (WHITE_SHORT | WHITE_LONG)) || attacked(position, king, enemy)) return moves;
    if (rights & WHITE_SHORT && !board[king + 1] && !board[king + 2] && !attacked(position, king + 1, enemy))
        moves = push(moves, king, king + 2, 0);
    if (rights & WHITE_LONG && !board[king - 1] && !board[king - 2] && !board[king - 3] && !attacked(position, king - 1, enemy))
        moves = push(moves, king, king - 2, 0);
    return moves;
}

// Every move but for whether it leaves the own king in check.
static struct move *all_moves(const struct position *position, struct move *moves) {
    for (int from = A1; from <= H8; from++) {
        int piece = position->board[from], kind = piece & 7;
        if (outside(from) || !kind || (piece & BLACK) != position->side) continue;
        if (kind == PAWN) {
            moves = pawn_moves(position, moves, from);
            continue;
        }
        for (const int8_t *step = steps_of[kind]; *step; step++) {
            for (int to = from + *step; !outside(to); to += *step) {
                int other = position->board[to];
                if (!other || (other & BLACK) != position->side) moves = push(moves, from, to, 0);
                if (other || !slides(kind)) break;
            }
        }
    }
    return castling_moves(position, moves);
}

static uint8_t rights_lost_at(int square) {
    switch (square) {
    case E1: return WHITE_SHORT | WHITE_LONG;
    case H1: return WHITE_SHORT;
    case A1: return WHITE_LONG;
    case E8: return BLACK_SHORT | BLACK_LONG;
    case H8: return BLACK_SHORT;
    case A8: return BLACK_LONG;
    default: return 0;
    }
}

// False if the move leaves the own king in check.
static bool make(struct position *position, struct move move) {
    int piece = position->board[move.from], kind = piece & 7, side = position->side;
    position->board[move.from] = EMPTY;
    position->board[move.to] = (uint8_t)(move.promotion ? move.promotion | side : piece);
    position->castling &= (uint8_t)~(rights_lost_at(move.from) | rights_lost_at(move.to));
    if (kind == PAWN && move.to == position->en_passant) position->board[move.to + (side ? 16 : -16)] = EMPTY;
    bool two = kind == PAWN && (move.to - move.from == 32 || move.from - move.to == 32);
    position->en_passant = two ? (uint8_t)((move.from + move.to) / 2) : NOWHERE;
    if (kind == KING) {
        position->king[side >> 3] = move.to;
        int corner = move.to - move.from == 2 ? move.from + 3 : move.from - move.to == 2 ? move.from - 4 : NOWHERE;
        if (corner != NOWHERE) {
            position->board[(move.from + move.to) / 2] = position->board[corner];
            position->board[corner] = EMPTY;
        }
    }
    position->side ^= BLACK;
    return !attacked(position, position->king[side >> 3], position->side);
}

static uint64_t perft(const struct position *position, int depth) {
    struct move moves[256];
    struct move *end = all_moves(position, moves);
    uint64_t count = 0;
    for (const struct move *move = moves; move < end; move++) {
        struct position next = *position;
        if (make(&next, *move)) count += depth > 1 ? perft(&next, depth - 1) : 1;
    }
    return count;
}

int main(int argc, char **argv) {
    // https://www.chessprogramming.org/Perft_Results
    static const struct {
        const char *name, *fen;
        uint64_t counts[5];
    } positions[] = {
        {"initial", "rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR w KQkq -", {20, 400, 8902, 197281, 4865609}},
        {"kiwipete", "r3k2r/p1ppqpb1/bn2pnp1/3PN3/1p2P3/2N2Q1p/PPPBBPPP/R3K2R w KQkq -", {48, 2039, 97862, 4085603, 193690690}},
        {"endgame", "8/2p5/3p4/KP5r/1R3p1k/8/4P1P1/8 w - -", {14, 191, 2812, 43238, 674624}},
        {"promotions", "n1n5/PPPk4/8/8/8/8/4Kppp/5N1N b - -", {24, 496, 9483, 182838, 3605103}},
    };
    int depth = (int)size_argument(argc, argv, 3, 5);
    for (size_t i = 0; i < sizeof positions / sizeof *positions; i++) {
        struct position position = parse(positions[i].fen);
        uint64_t count = perft(&position, depth);
        printf("%-10s %" PRIu64 " in %d moves\n", positions[i].name, count, depth);
        if (count != positions[i].counts[depth - 1]) die("it should be %" PRIu64, positions[i].counts[depth - 1]);
        absorb_u64(count);
    }
    return print_digest();
}
