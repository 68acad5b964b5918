// What the parts of the kernel share: memory, what a record looks like in it, deflate's numbers.
//
// The kernel turns the snapshots of one hour into one segment of a deflate stream. It runs as
// WebAssembly, in a memory of its own: nothing here can reach anything else, whatever bytes come in. It calls nothing
// outside, knows no clock, and gives the same bytes on every machine. `__init__.py` drives it.
//
//   reading.c   bodies to compact JSON records, exactly, or a place where more care is needed
//   lines.c     the order of an hour's records, and its lines
//   deflate.c   lines to a segment of a deflate stream: each as what differs from the line before
//   segment.c   how a segment ends, and how another compressor's stream becomes one

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t i64;

#define EXPORT(name) __attribute__((export_name(#name)))
#define memcpy __builtin_memcpy
#define memset __builtin_memset

static inline u64 load8(const u8 *at) {
    u64 value;
    memcpy(&value, at, 8);
    return value;
}

static inline u32 load4(const u8 *at) {
    u32 value;
    memcpy(&value, at, 4);
    return value;
}

static inline bool is_same(const u8 *one, const u8 *other, u32 length) {
    for (; length >= 8; one += 8, other += 8, length -= 8)
        if (load8(one) != load8(other)) return false;
    for (; length; one++, other++, length--)
        if (*one != *other) return false;
    return true;
}

// Past the end of whatever is read eight or sixteen bytes at a time.
#define SLACK 64

// A record of the hour: its text without the closing brace follows at once. Where `add` was not told
// what it is ordered by, `__init__.py` writes that here before the hour is sorted.
typedef struct __attribute__((packed)) {
    i64 vehicle;  // what the records of an hour are ordered by
    u32 length;   // of the text
    u32 end;      // address of what stands in place of the closing brace: an End
} Record;

// What every line of one snapshot ends with.
typedef struct {
    u32 records;  // of the snapshot
    u32 length;
    u8 text[56];
} End;

// All records of the hour lie here, in the order of time, with this between some of them: their
// addresses, since going from one to the next would wait for memory each time.
typedef struct Index {
    struct Index *next;
    u32 count;
    u32 addresses[1022];
} Index;

extern Index *first_index;
extern u8 *records_end;
extern u32 records_count, longest_line;
extern u64 lines_bytes;

// Makes memory up to here usable; false where there is no more (a machine's, or above 4 GB).
bool reserve(const u8 *until, u64 more);

// deflate.c: text goes in line by line.
u8 *deflate_begin(u8 *free, u32 longest);  // where the text is to be written; 0: no memory
u8 *deflate_line(u8 *line_end);            // the line just written is complete; where the next goes
u8 *deflate_end(u8 **segment);             // where the segment ends, and begins

// What deflate has (RFC 1951): symbols of its three codes, and how many bits follow some of them.
enum { LITERALS = 286, DISTANCES = 30, CODE_LENGTHS = 19, END_OF_BLOCK = 256 };
enum { AGAIN = 16, SOME_ZEROS = 17, MANY_ZEROS = 18 };
extern const u8 LENGTH_EXTRA[29], DISTANCE_EXTRA[DISTANCES], CODE_LENGTH_ORDER[CODE_LENGTHS];

// The codes that go with these lengths, their bits in the order in which they are written.
void codes_of(const u8 *lengths, u32 symbols, u16 *codes);

// Ends a segment behind its last block, whose last bits (seven at most) are not written yet.
u8 *end_segment(u8 *out, u8 bits, u32 bit_count);
