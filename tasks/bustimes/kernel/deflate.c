// Lines to one segment of a deflate stream, each as what differs from the line before.
//
// Neighbouring lines are about the same vehicle, a minute apart: the same fields with a few other
// digits. A general compressor finds that out by searching. This one walks through a line and the
// one before it side by side, field by field, and searches only for what has changed, in what has
// changed before. It writes what every deflate reader reads (RFC 1951), with Huffman codes made anew
// for some thousand lines at a time. Any text is compressed correctly; other text than such lines is
// not compressed well. A segment begins and ends at a byte, refers to nothing before it and has no
// last block, so that any number of them can follow each other. It has to be read again before it
// counts; `check` tells what must come out.

#include "kernel.h"
#include <wasm_simd128.h>

#define WINDOW 32768            // how far back a match may reach
#define FRESH (1u << 20)        // of text in memory beside that
#define BLOCK_TOKENS 65536      // with one set of codes
#define LONGEST_MATCH 258
#define HASH_BITS 15

static const u16 LENGTH_BASE[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                    31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
const u8 LENGTH_EXTRA[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                             2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
static const u16 DISTANCE_BASE[30] = {1,   2,   3,   4,   5,   7,    9,    13,   17,   25,
                                      33,  49,  65,  97,  129, 193,  257,  385,  513,  769,
                                      1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
const u8 DISTANCE_EXTRA[30] = {0, 0, 0, 0, 1, 1, 2, 2,  3,  3,  4,  4,  5,  5,  6,
                               6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13};
const u8 CODE_LENGTH_ORDER[CODE_LENGTHS] = {16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                            11, 4,  12, 3, 13, 2, 14, 1, 15};
static u8 length_code[LONGEST_MATCH - 2];  // of a length less 3

// The text: the last of what is written already, and what is not. Positions count from the first
// byte of all text; `text_at` says where in memory a position lies.
static u8 *window, *window_end;
static u32 window_position;
static u32 done;  // all text before this position is in tokens
static u32 line_begin, last_line_begin;
static bool has_last_line;

// A match that may still grow: the text here is the same as so much before it.
static u32 open_begin, open_length, open_distance;

// Where four bytes stood last, as position + 1.
static u32 places[1 << HASH_BITS];

// A token is a byte, or MATCH | length - 3 << 16 | distance - 1.
#define MATCH (1u << 31)
static u32 tokens[BLOCK_TOKENS], token_count;
static u32 literal_counts[LITERALS], distance_counts[DISTANCES];

static u8 *segment_begin, *out;
static u64 bits;
static u32 bit_count;
static u64 check_low, check_high;
static bool is_out_of_memory;

// ---- bits

static inline void put(u64 value, u32 count) {
    bits |= value << bit_count;
    bit_count += count;
}

static inline void write_whole_bytes(void) {
    memcpy(out, &bits, 8);
    out += bit_count >> 3;
    bits >>= bit_count & ~7u;  // at most 56 of them are in use
    bit_count &= 7;
}

// ---- Huffman codes

// The length of each symbol's code, as short as can be for these counts with none above `limit`.
static void code_lengths(const u32 *counts, u32 symbols, u32 limit, u8 *lengths) {
    u32 used[LITERALS], weights[2 * LITERALS], parents[2 * LITERALS];
    u32 count = 0;
    memset(lengths, 0, symbols);
    for (u32 symbol = 0; symbol < symbols; symbol++)
        if (counts[symbol]) used[count++] = symbol;
    if (count < 2) {
        // A code of its own for one that is not there: some readers want the set to be complete.
        lengths[count ? used[0] : 0] = 1;
        lengths[count && used[0] == 0 ? 1 : count ? 0 : 1] = 1;
        return;
    }
    // By count; a shell sort, which keeps equal counts in the order of symbols by comparing them.
    for (u32 gap = count / 2; gap; gap /= 2)
        for (u32 i = gap; i < count; i++) {
            u32 symbol = used[i], j = i;
            for (; j >= gap; j -= gap) {
                u32 other = used[j - gap];
                if (counts[other] < counts[symbol] ||
                    (counts[other] == counts[symbol] && other < symbol))
                    break;
                used[j] = other;
            }
            used[j] = symbol;
        }
    for (u32 i = 0; i < count; i++) weights[i] = counts[used[i]];
    // Two queues, both in the order of weight: symbols, and pairs of what was paired before.
    u32 symbol = 0, pair = count, end = count;
    while (end < 2 * count - 1) {
        u32 weight = 0;
        for (int side = 0; side < 2; side++) {
            bool is_symbol = symbol < count && (pair == end || weights[symbol] <= weights[pair]);
            u32 node = is_symbol ? symbol++ : pair++;
            weight += weights[node];
            parents[node] = end;
        }
        weights[end++] = weight;
    }
    u32 depths[2 * LITERALS], at_depth[16] = {0};
    u64 room_taken = 0;  // of 2^limit codes of full length
    depths[end - 1] = 0;
    for (u32 node = end - 1; node-- > 0;) {
        depths[node] = depths[parents[node]] + 1;
        if (node >= count) continue;
        u32 depth = depths[node] < limit ? depths[node] : limit;
        at_depth[depth]++;
        room_taken += 1ull << (limit - depth);
    }
    // Too many at the limit: one of them takes a place beside a shorter code, which grows by one.
    for (; room_taken > 1ull << limit; room_taken--) {
        u32 depth = limit - 1;
        while (!at_depth[depth]) depth--;
        at_depth[depth]--;
        at_depth[depth + 1] += 2;
        at_depth[limit]--;
    }
    u32 rarest = 0;
    for (u32 depth = limit; depth; depth--)
        for (u32 i = 0; i < at_depth[depth]; i++) lengths[used[rarest++]] = (u8)depth;
}

// The codes that go with the lengths, their bits in the order in which they are written.
void codes_of(const u8 *lengths, u32 symbols, u16 *codes) {
    u32 counts[16] = {0}, next[16] = {0};
    for (u32 symbol = 0; symbol < symbols; symbol++) counts[lengths[symbol]]++;
    counts[0] = 0;
    for (u32 length = 1; length < 16; length++)
        next[length] = (next[length - 1] + counts[length - 1]) << 1;
    for (u32 symbol = 0; symbol < symbols; symbol++) {
        u32 code = lengths[symbol] ? next[lengths[symbol]]++ : 0, turned = 0;
        for (u32 bit = 0; bit < lengths[symbol]; bit++, code >>= 1) turned = turned << 1 | (code & 1);
        codes[symbol] = (u16)turned;
    }
}

// ---- blocks

static inline u32 distance_code(u32 less_1) {
    if (less_1 < 2) return less_1;
    u32 high = 31 - (u32)__builtin_clz(less_1);
    return 2 * high + (less_1 >> (high - 1) & 1);
}

// Both tables of code lengths, as one list with its repetitions counted.
static void write_code_lengths(const u8 *literal_lengths, u32 literals, const u8 *distance_lengths,
                               u32 distances) {
    u8 all[LITERALS + DISTANCES], symbols[LITERALS + DISTANCES], extras[LITERALS + DISTANCES];
    u32 count = 0, total = literals + distances, counts[CODE_LENGTHS] = {0};
    memcpy(all, literal_lengths, literals);
    memcpy(all + literals, distance_lengths, distances);
    for (u32 i = 0; i < total;) {
        u8 length = all[i];
        u32 run = 1;
        while (i + run < total && all[i + run] == length) run++;
        for (u32 left = run; left;) {
            u32 taken = 1, symbol = length, extra = 0;
            if (length == 0 && left >= 3) {
                taken = left < 138 ? left : 138;
                symbol = taken > 10 ? MANY_ZEROS : SOME_ZEROS;
                extra = taken - (taken > 10 ? 11 : 3);
            } else if (length && left < run && left >= 3) {  // the first of a run stands for itself
                taken = left < 6 ? left : 6;
                symbol = AGAIN;
                extra = taken - 3;
            }
            symbols[count] = (u8)symbol;
            extras[count++] = (u8)extra;
            counts[symbol]++;
            left -= taken;
        }
        i += run;
    }
    u8 lengths[CODE_LENGTHS];
    u16 codes[CODE_LENGTHS];
    code_lengths(counts, CODE_LENGTHS, 7, lengths);
    codes_of(lengths, CODE_LENGTHS, codes);
    u32 written = CODE_LENGTHS;
    while (written > 4 && !lengths[CODE_LENGTH_ORDER[written - 1]]) written--;
    put(literals - 257, 5);
    put(distances - 1, 5);
    put(written - 4, 4);
    for (u32 i = 0; i < written; i++) {
        put(lengths[CODE_LENGTH_ORDER[i]], 3);
        write_whole_bytes();
    }
    for (u32 i = 0; i < count; i++) {
        u32 symbol = symbols[i];
        put(codes[symbol], lengths[symbol]);
        put(extras[i], symbol == AGAIN ? 2 : symbol == SOME_ZEROS ? 3 : symbol == MANY_ZEROS ? 7 : 0);
        write_whole_bytes();
    }
}

// Writes the tokens, with the codes that suit them best.
static void write_block(void) {
    // A code has 15 bits at most: no token takes more than 15 + 5 + 15 + 13 of them.
    if (is_out_of_memory || !reserve(out, (u64)token_count * 6 + 1024)) {
        is_out_of_memory = true;
        token_count = 0;
        return;
    }
    u8 literal_lengths[LITERALS], distance_lengths[DISTANCES];
    u16 literal_codes[LITERALS], distance_codes[DISTANCES];
    literal_counts[END_OF_BLOCK] = 1;
    code_lengths(literal_counts, LITERALS, 15, literal_lengths);
    code_lengths(distance_counts, DISTANCES, 15, distance_lengths);
    codes_of(literal_lengths, LITERALS, literal_codes);
    codes_of(distance_lengths, DISTANCES, distance_codes);
    u32 literals = LITERALS, distances = DISTANCES;
    while (!literal_lengths[literals - 1]) literals--;
    while (distances > 1 && !distance_lengths[distances - 1]) distances--;

    put(0, 1);  // not the last one
    put(2, 2);  // with codes of its own
    write_code_lengths(literal_lengths, literals, distance_lengths, distances);
    for (u32 i = 0; i < token_count; i++) {
        u32 token = tokens[i];
        if (bit_count > 40) write_whole_bytes();
        if (token < MATCH) {
            put(literal_codes[token], literal_lengths[token]);
            continue;
        }
        write_whole_bytes();  // up to 48 bits come at once
        u32 length = token >> 16 & 0xFF, distance = token & (WINDOW - 1);
        u32 code = length_code[length];
        put(literal_codes[257 + code], literal_lengths[257 + code]);
        put(length + 3 - LENGTH_BASE[code], LENGTH_EXTRA[code]);
        code = distance_code(distance);
        put(distance_codes[code], distance_lengths[code]);
        put(distance + 1 - DISTANCE_BASE[code], DISTANCE_EXTRA[code]);
    }
    write_whole_bytes();
    put(literal_codes[END_OF_BLOCK], literal_lengths[END_OF_BLOCK]);
    write_whole_bytes();
    token_count = 0;
    memset(literal_counts, 0, sizeof literal_counts);
    memset(distance_counts, 0, sizeof distance_counts);
}

// ---- tokens

static inline void put_literal(u8 byte) {
    if (token_count == BLOCK_TOKENS) write_block();
    tokens[token_count++] = byte;
    literal_counts[byte]++;
}

static inline void put_match(u32 length, u32 distance) {
    u32 code = distance_code(distance - 1);
    while (length) {
        u32 part = length < LONGEST_MATCH ? length : LONGEST_MATCH;
        if (length - part == 1 || length - part == 2) part -= 3;  // no match is shorter than 3
        if (token_count == BLOCK_TOKENS) write_block();
        tokens[token_count++] = MATCH | (part - 3) << 16 | (distance - 1);
        literal_counts[257 + length_code[part - 3]]++;
        distance_counts[code]++;
        length -= part;
    }
}

// ---- matches

static inline const u8 *text_at(u32 position) { return window + (position - window_position); }

static inline u32 hash_of(const u8 *text) {
    return load4(text) * 2654435761u >> (32 - HASH_BITS);
}

// For how many bytes text is the same as earlier text; `end` is where it ends.
static inline u32 common(const u8 *text, const u8 *earlier, const u8 *end) {
    const u8 *begin = text;
    for (; text < end; text += 8, earlier += 8) {
        u64 different = load8(text) ^ load8(earlier);
        if (!different) continue;
        text += __builtin_ctzll(different) >> 3;
        break;
    }
    return (u32)((text < end ? text : end) - begin);
}

// Whether a match takes fewer bits than its bytes would: about four for a digit, seven for others.
static inline bool is_worth(const u8 *text, u32 length, u32 distance) {
    u32 saved = 0;
    for (u32 i = 0; i < length && i < 8; i++) saved += (u8)(text[i] - '0') < 10 ? 4 : 7;
    return saved > 12u + DISTANCE_EXTRA[distance_code(distance - 1)];
}

// Text that is new in its line, up to a position: as literals, or as it stood elsewhere before.
static void write_new_text(u32 end) {
    const u8 *limit = text_at(end);
    while (done < end) {
        const u8 *text = text_at(done);
        if (end - done < 4) {  // too short for a match, and what follows may not be there yet
            put_literal(*text);
            done++;
            continue;
        }
        u32 *place = &places[hash_of(text)];
        u32 before = *place;
        *place = done + 1;
        u32 distance = done + 1 - before;
        if (before && distance <= WINDOW && before > window_position) {
            const u8 *earlier = text - distance;
            u32 length = common(text, earlier, limit);
            if (length >= 4 && is_worth(text, length, distance)) {
                put_match(length, distance);
                for (u32 i = 1; i + 4 <= length && i < 8; i++) places[hash_of(text + i)] = done + i + 1;
                done += length;
                continue;
            }
        }
        put_literal(*text);
        done++;
    }
}

static void close_match(void) {
    if (!open_length) return;
    write_new_text(open_begin);
    put_match(open_length, open_distance);
    done += open_length;
    open_length = 0;
}

// Text is the same as earlier text: lets the open match grow, or opens one where that is worth it.
static inline void found(const u8 *text, const u8 *earlier, u32 length) {
    u32 distance = (u32)(text - earlier);
    if (distance > WINDOW) return;
    u32 position = window_position + (u32)(text - window);
    u32 written = open_length ? open_begin + open_length : done;
    while (position > written && earlier > window && text[-1] == earlier[-1]) {
        text--;
        earlier--;
        position--;
        length++;
    }
    if (open_length && open_distance == distance && position == written) {
        open_length += length;
    } else if (length >= 4 && is_worth(text, length, distance)) {
        close_match();
        open_begin = position;
        open_length = length;
        open_distance = distance;
    }
}

// The first comma from here on, or the end.
static inline const u8 *comma(const u8 *text, const u8 *end) {
    for (; text < end; text += 8) {
        u64 is_zero = load8(text) ^ 0x2C2C2C2C2C2C2C2Cull;
        is_zero = (is_zero - 0x0101010101010101ull) & ~is_zero & 0x8080808080808080ull;
        if (!is_zero) continue;
        text += __builtin_ctzll(is_zero) >> 3;
        break;
    }
    return text < end ? text : end;
}

// Walks through a line and the one before it, field by field.
static void compare(const u8 *text, const u8 *end, const u8 *earlier, const u8 *earlier_end) {
    for (;;) {
        u32 length = common(text, earlier, end);
        if (length > (u32)(earlier_end - earlier)) length = (u32)(earlier_end - earlier);
        if (length) found(text, earlier, length);
        text = comma(text + length, end);
        earlier = comma(earlier + length, earlier_end);
        if (text < end && earlier < earlier_end) continue;
        // No field more in one of them: the rest is held against each other from its end.
        length = 0;
        while (text < end && earlier < earlier_end && end[-1] == earlier_end[-1]) {
            end--;
            earlier_end--;
            length++;
        }
        if (length) found(end, earlier_end, length);
        return;
    }
}

// ---- the segment

static void make_tables(void) {
    for (u32 code = 0; code < 29; code++)
        for (u32 i = 0; i < 1u << LENGTH_EXTRA[code]; i++)
            if (LENGTH_BASE[code] + i <= LONGEST_MATCH)
                length_code[LENGTH_BASE[code] + i - 3] = (u8)code;
}

static inline u32 sum_of(v128_t lanes) {
    return wasm_u32x4_extract_lane(lanes, 0) + wasm_u32x4_extract_lane(lanes, 1) +
           wasm_u32x4_extract_lane(lanes, 2) + wasm_u32x4_extract_lane(lanes, 3);
}

// Adds text to its Adler-32 (RFC 1950), by which the reader of the segment can tell what went in.
static void add_to_check(const u8 *text, u32 length) {
    const v128_t high = wasm_i16x8_make(16, 15, 14, 13, 12, 11, 10, 9);
    const v128_t low = wasm_i16x8_make(8, 7, 6, 5, 4, 3, 2, 1);
    while (length) {
        u32 part = length < 5536 ? length : 5536;  // more of 255 would not fit into 32 bits
        length -= part;
        v128_t sums = wasm_i32x4_splat(0), sums_before = sums, weighted = sums;
        u32 whole = part & ~15u;
        for (const u8 *end = text + whole; text < end; text += 16) {
            v128_t bytes = wasm_v128_load(text);
            sums_before = wasm_i32x4_add(sums_before, sums);
            sums = wasm_i32x4_add(
                sums, wasm_u32x4_extadd_pairwise_u16x8(wasm_u16x8_extadd_pairwise_u8x16(bytes)));
            weighted = wasm_i32x4_add(weighted,
                                      wasm_i32x4_dot_i16x8(wasm_u16x8_extend_low_u8x16(bytes), high));
            weighted = wasm_i32x4_add(weighted,
                                      wasm_i32x4_dot_i16x8(wasm_u16x8_extend_high_u8x16(bytes), low));
        }
        check_high += check_low * whole + 16 * (u64)sum_of(sums_before) + sum_of(weighted);
        check_low += sum_of(sums);
        for (u32 rest = part - whole; rest; rest--) {
            check_low += *text++;
            check_high += check_low;
        }
        check_low %= 65521;
        check_high %= 65521;
    }
}

EXPORT(check) u32 check(void) { return (u32)(check_high << 16 | check_low); }

u8 *deflate_begin(u8 *free, u32 longest) {
    if (!length_code[LONGEST_MATCH - 3]) make_tables();
    u64 room = (u64)WINDOW + FRESH + 2 * (u64)longest + SLACK;
    if (!reserve(free, room)) return 0;
    window = free;
    window_end = free + WINDOW + FRESH;
    window_position = done = line_begin = last_line_begin = 0;
    has_last_line = false;
    open_length = 0;
    memset(places, 0, sizeof places);
    memset(literal_counts, 0, sizeof literal_counts);
    memset(distance_counts, 0, sizeof distance_counts);
    token_count = 0;
    check_low = 1;
    check_high = 0;
    is_out_of_memory = false;
    bits = bit_count = 0;
    segment_begin = out = window + room;
    return window;
}

// Lets the text but for its last bytes go, to make room for more.
static u8 *slide(u8 *text_end) {
    close_match();
    u32 end = window_position + (u32)(text_end - window);
    write_new_text(end);
    u32 kept = (u32)(text_end - window) < WINDOW ? (u32)(text_end - window) : WINDOW;
    if (end - last_line_begin > kept) has_last_line = false;
    __builtin_memmove(window, text_end - kept, kept);
    window_position = end - kept;
    return window + kept;
}

u8 *deflate_line(u8 *text_end) {
    u32 end = window_position + (u32)(text_end - window);
    u32 length = end - line_begin;
    const u8 *line = text_at(line_begin);
    add_to_check(line, length);
    if (has_last_line && line_begin - last_line_begin <= WINDOW)
        compare(line, text_end, text_at(last_line_begin), line);
    last_line_begin = line_begin;
    has_last_line = true;
    line_begin = end;
    if (text_end >= window_end) text_end = slide(text_end);
    return is_out_of_memory ? 0 : text_end;
}

u8 *deflate_end(u8 **segment) {
    close_match();
    write_new_text(line_begin);
    write_block();
    if (is_out_of_memory || !reserve(out, 16)) return 0;
    *segment = segment_begin;
    return end_segment(out, (u8)bits, bit_count);
}
