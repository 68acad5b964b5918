// How a segment ends, and how another compressor's stream becomes one.
//
// A segment ends as zlib's Z_SYNC_FLUSH ends: with a stored block of no bytes, which fills up the
// byte that it begins in. Other compressors end their streams with a block that says it is the last
// one, and do not say where it begins. So their codes are followed from the first bit to the end,
// without making the text that they stand for. What is no deflate stream is found out.

#include "kernel.h"

enum { LONGEST_CODE = 15, FIXED_LITERALS = 288 };

u8 *end_segment(u8 *out, u8 bits, u32 bit_count) {
    static const u8 NO_BYTES[4] = {0, 0, 0xFF, 0xFF};  // the length, and the same with bits turned
    if (bit_count) *out++ = bits;
    if (bit_count == 0 || bit_count > 5) *out++ = 0;  // no room for the three bits before it
    memcpy(out, NO_BYTES, sizeof NO_BYTES);
    return out + sizeof NO_BYTES;
}

static const u8 *stream;
static u64 place, end;  // in bits

static inline u32 take(u32 count) {
    u32 value = load4(stream + (place >> 3)) >> (place & 7) & ((1u << count) - 1);
    place += count;
    return value;
}

// What the next bits mean, by these bits: how many of them a code takes, and the bits that belong to
// it; what has to follow; and which symbol it is. 0 where no code begins so.
enum { TAKEN = 31, DISTANCE_FOLLOWS = 32, ENDS_BLOCK = 64, SYMBOL_AT = 7 };
typedef struct {
    u32 mask;
    u16 entries[1 << LONGEST_CODE];
} Table;

static Table literal_table, distance_table, length_table;

static void make_table(Table *table, const u8 *lengths, const u16 *meanings, u32 symbols) {
    u16 codes[FIXED_LITERALS];
    codes_of(lengths, symbols, codes);
    u32 longest = 1;
    for (u32 symbol = 0; symbol < symbols; symbol++)
        if (lengths[symbol] > longest) longest = lengths[symbol];
    u32 size = 1u << longest;
    table->mask = size - 1;
    memset(table->entries, 0, size * sizeof *table->entries);
    for (u32 symbol = 0; symbol < symbols; symbol++)
        if (lengths[symbol])
            for (u32 i = codes[symbol]; i < size; i += 1u << lengths[symbol])
                table->entries[i] = (u16)(meanings[symbol] + lengths[symbol]);
}

static u16 literal_meanings[FIXED_LITERALS], distance_meanings[DISTANCES];
static u16 length_meanings[CODE_LENGTHS];

static void make_meanings(void) {
    for (u32 i = 0; i < CODE_LENGTHS; i++) length_meanings[i] = (u16)(i << SYMBOL_AT);
    for (u32 i = 0; i < DISTANCES; i++) distance_meanings[i] = DISTANCE_EXTRA[i];
    literal_meanings[END_OF_BLOCK] = ENDS_BLOCK;
    for (u32 i = END_OF_BLOCK + 1; i < LITERALS; i++)
        literal_meanings[i] = DISTANCE_FOLLOWS + LENGTH_EXTRA[i - END_OF_BLOCK - 1];
}

static bool read_tables(void) {
    u32 literals = 257 + take(5), distances = 1 + take(5), written = 4 + take(4);
    if (literals > LITERALS || distances > DISTANCES) return false;
    u8 lengths[LITERALS + DISTANCES], lengths_of_lengths[CODE_LENGTHS] = {0};
    for (u32 i = 0; i < written; i++) lengths_of_lengths[CODE_LENGTH_ORDER[i]] = (u8)take(3);
    make_table(&length_table, lengths_of_lengths, length_meanings, CODE_LENGTHS);
    for (u32 i = 0; i < literals + distances;) {
        u32 bits = load4(stream + (place >> 3)) >> (place & 7), times = 1;
        u32 entry = length_table.entries[bits & length_table.mask], length = entry >> SYMBOL_AT;
        place += entry & TAKEN;
        if (!entry || place > end || (length == AGAIN && !i)) return false;
        if (length == AGAIN) {
            length = lengths[i - 1];
            times = 3 + take(2);
        } else if (length > AGAIN) {
            times = length == SOME_ZEROS ? 3 + take(3) : 11 + take(7);
            length = 0;
        }
        if (i + times > literals + distances) return false;
        for (; times; times--) lengths[i++] = (u8)length;
    }
    make_table(&literal_table, lengths, literal_meanings, literals);
    make_table(&distance_table, lengths + literals, distance_meanings, distances);
    return true;
}

static void make_fixed_tables(void) {
    u8 lengths[FIXED_LITERALS];
    memset(lengths, 8, sizeof lengths);
    memset(lengths + 144, 9, 112);
    memset(lengths + 256, 7, 24);
    make_table(&literal_table, lengths, literal_meanings, FIXED_LITERALS);
    memset(lengths, 5, DISTANCES);
    make_table(&distance_table, lengths, distance_meanings, DISTANCES);
}

// Without a branch that depends on the code: one in two would be foreseen wrongly, and take longer
// than to look up a distance that is not there.
static bool pass_codes(void) {
    while (place < end) {
        u64 bits = load8(stream + (place >> 3)) >> (place & 7);  // 57, and both take 48 at most
        u32 entry = literal_table.entries[bits & literal_table.mask], taken = entry & TAKEN;
        u32 distance = distance_table.entries[bits >> taken & distance_table.mask];
        u32 has_distance = (entry & DISTANCE_FOLLOWS) / DISTANCE_FOLLOWS;
        place += taken + distance * has_distance;
        if (!entry || has_distance > distance) return false;
        if (entry & ENDS_BLOCK) return true;
    }
    return false;
}

static bool pass_block(void) {
    switch (take(2)) {
    case 0:  // stored: a length of two bytes, the same with bits turned, and so many bytes
        place = (place + 7) & ~7ull;
        if (place + 32 > end) return false;
        place += 8 * (u64)take(16) + 16;
        return true;
    case 1: make_fixed_tables(); return pass_codes();
    case 2: return read_tables() && pass_codes();
    default: return false;
    }
}

// Makes a segment of a finished stream that begins at a byte, in its place. Returns the segment's
// length, which is the stream's and five bytes more at most; 0 where it is no finished stream.
EXPORT(segment_of_stream) u32 segment_of_stream(u8 *begin, u32 length) {
    stream = begin;
    place = 0;
    end = 8 * (u64)length;
    u64 last_block = 0;
    make_meanings();
    for (bool is_last = false; !is_last;) {
        last_block = place;
        is_last = place + 3 <= end && take(1);
        if (place + 2 > end || !pass_block() || place > end) return 0;
    }
    if (end - place > 7) return 0;  // something follows
    begin[last_block >> 3] &= (u8) ~(1u << (last_block & 7));
    u32 bit_count = place & 7;
    u8 *out = begin + (place >> 3);
    return (u32)(end_segment(out, (u8)(*out & ((1u << bit_count) - 1)), bit_count) - begin);
}
