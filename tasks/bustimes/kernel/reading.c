// Bodies to records: compact JSON, token by token, every value's own digits and escapes.
//
// Reads what the collectors wrote, JSON and Python 2's repr, in one pass. Whatever is a list of
// flat or nested objects in either language is either converted exactly, as ast.literal_eval and
// json.dumps or json.loads would, or not at all: what is rare, odd or wrong stops the reading at the
// record it stands in (an odd one), or, outside records, ends it (NOT_READ). The caller then decides
// with Python's own parsers. Text is UTF-8; that was checked before.

#include "kernel.h"
#include <wasm_simd128.h>

enum { READ = 0, NO_MEMORY = 1, NOT_READ = 2 };
enum { NULL_, BOOLEAN, INTEGER, NUMBER, TEXT, LIST, OBJECT, KINDS };

#define MAX_DEPTH 32
#define MAX_FIELDS 256
#define MAX_NAMES 16384
#define NO_VEHICLE (3ll << 61)  // among what the caller puts behind all numbers

typedef struct {
    u32 name, length;  // offset in `names`
    u32 counts[KINDS];
} Field;

extern u8 __heap_base;
Index *first_index;
static Index *index;  // the last one
u8 *records_end;
u32 records_count, longest_line;
u64 lines_bytes;

static u8 *body, *body_end, *at;  // `at` is always at the next byte to look at
static u8 *out;                   // where the next byte of the record goes
static bool is_repr;
static End *first_end, *ends, *end;  // of all snapshots; the next free one; that of this snapshot
static bool is_in_list;
static bool has_escape;  // in the string just read

// How the fields of a record began in the last one: from the end of the value before to the value.
// A record has the fields of the last one, as a rule, and the same bytes mean the same again.
typedef struct {
    v128_t body[2], mask[2], json[2];  // as it stood there; which bytes of that count; what it became
    u32 body_length, json_length;      // a length of 0 is no field
    u32 field;
    bool is_vehicle;
} Beginning;
static Beginning beginnings[MAX_FIELDS];

static Field fields[MAX_FIELDS];
static u8 names[MAX_NAMES + SLACK];
static u32 field_count, names_length;

// As it was before the snapshot, should it turn out to be none.
static struct {
    u8 *records_end;
    Index *index;
    u32 records_count, longest_line, field_count, names_length, index_count;
    u64 lines_bytes;
    Field fields[MAX_FIELDS];
} before;

// ---- memory

bool reserve(const u8 *until, u64 more) {
    u64 wanted = (u64)(uintptr_t)until + more + SLACK;
    u64 have = (u64)__builtin_wasm_memory_size(0) << 16;
    if (wanted <= have) return true;
    if (wanted > 0xFFFF0000u) return false;
    return __builtin_wasm_memory_grow(0, (wanted - have + 0xFFFF) >> 16) != (size_t)-1;
}

// The most that so many bytes of a body can become: three of them, {} and a comma, are a record.
// With them comes an address each.
static u64 room_for(u32 length) {
    return ((u64)length / 3 + 1) * (sizeof(Record) + 2 + 5) + 2 * sizeof(Index);
}

static void forget_beginnings(void);

// ---- the hour

EXPORT(begin) u8 *begin(u32 largest_body, u32 snapshots) {
    first_end = ends = (End *)(((uintptr_t)&__heap_base + 15) & ~(uintptr_t)15);
    body = (u8 *)(ends + snapshots);
    if (!reserve((u8 *)ends, (u64)snapshots * sizeof(End) + largest_body + SLACK)) return 0;
    records_end = body + largest_body + SLACK;
    first_index = index = (Index *)(((uintptr_t)records_end + 7) & ~(uintptr_t)7);
    records_end = (u8 *)(index + 1);
    if (!reserve(records_end, 0)) return 0;
    index->count = 0;
    records_count = longest_line = 0;
    lines_bytes = 0;
    field_count = names_length = 0;
    forget_beginnings();
    return body;
}

// Makes room for longer bodies than the hour was begun for, behind what is there; 0: no memory.
EXPORT(grow) u8 *grow(u32 largest_body) {
    if (!reserve(records_end, (u64)largest_body + SLACK)) return 0;
    body = records_end;
    records_end += largest_body + SLACK;
    return body;
}

// Forgets the snapshot: it is none, or is added record by record.
EXPORT(undo) void undo(void) {
    records_end = before.records_end;
    index = before.index;
    index->count = before.index_count;
    records_count = before.records_count;
    longest_line = before.longest_line;
    lines_bytes = before.lines_bytes;
    field_count = before.field_count;
    names_length = before.names_length;
    memcpy(fields, before.fields, field_count * sizeof(Field));
    forget_beginnings();
    end->records = 0;
}

// Where the text of the next record goes.
static u8 *next_text(void) {
    if (index->count == sizeof index->addresses / sizeof *index->addresses) {
        index->next = (Index *)(((uintptr_t)records_end + 7) & ~(uintptr_t)7);
        index = index->next;
        index->count = 0;
        records_end = (u8 *)(index + 1);
    }
    return records_end + sizeof(Record);
}

// The text of so many bytes is there, or will be.
static void add_record(i64 vehicle, u32 length) {
    index->addresses[index->count++] = (u32)(uintptr_t)records_end;
    Record record = {vehicle, length, (u32)(uintptr_t)end};
    memcpy(records_end, &record, sizeof record);
    records_end += sizeof record + length;
    records_count++;
    end->records++;
    u32 line = length + end->length - (length == 1);  // no comma after an only brace
    lines_bytes += line;
    if (line > longest_line) longest_line = line;
}

// Room for a record that was converted elsewhere, without its closing brace; 0: no memory.
EXPORT(add) u8 *add(i64 vehicle, u32 length) {
    // What `open` reserved for the rest of the snapshot still lies behind it.
    u64 rest = room_for((u32)(body_end - at));
    if (!reserve(records_end, rest + sizeof(Record) + length)) return 0;
    u8 *text = next_text();
    add_record(vehicle, length);
    return text;
}

// ---- fields

// The field of this name, or MAX_FIELDS where there is no room for another.
static u32 field_of(const u8 *name, u32 length) {
    for (u32 i = 0; i < field_count; i++)
        if (fields[i].length == length && is_same(names + fields[i].name, name, length)) return i;
    if (field_count == MAX_FIELDS || names_length + length > MAX_NAMES) return MAX_FIELDS;
    fields[field_count] = (Field){names_length, length, {0}};
    memcpy(names + names_length, name, length);
    names_length += length;
    return field_count++;
}

static void forget_beginnings(void) {
    for (u32 i = 0; i < MAX_FIELDS; i++) beginnings[i].body_length = 0;
}

EXPORT(fields_at) Field *fields_at(void) { return fields; }
EXPORT(fields_count) u32 fields_count_(void) { return field_count; }
EXPORT(names_at) u8 *names_at(void) { return names; }

// ---- tokens

static inline void skip_space(void) {
    while (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t') at++;
}

// Copies what stands for itself in a string, up to the first byte that may not.
static inline void copy_plain(u8 quote) {
    for (;;) {
        v128_t text = wasm_v128_load(at);
        wasm_v128_store(out, text);
        v128_t stop = wasm_v128_or(wasm_i8x16_eq(text, wasm_i8x16_splat('"')),
                                   wasm_i8x16_eq(text, wasm_i8x16_splat('\\')));
        if (is_repr) {
            stop = wasm_v128_or(stop, wasm_i8x16_eq(text, wasm_i8x16_splat((char)quote)));
            // As signed numbers what is not ASCII is below the control characters.
            stop = wasm_v128_or(stop, wasm_i8x16_lt(text, wasm_i8x16_splat(' ')));
            stop = wasm_v128_or(stop, wasm_i8x16_eq(text, wasm_i8x16_splat(0x7F)));
        } else {
            stop = wasm_v128_or(stop, wasm_u8x16_lt(text, wasm_u8x16_splat(' ')));
        }
        u32 stops = wasm_i8x16_bitmask(stop);
        if (stops) {
            u32 plain = (u32)__builtin_ctz(stops);
            at += plain;
            out += plain;
            return;
        }
        at += 16;
        out += 16;
    }
}

static i64 hex(const u8 *digits, u32 count) {
    i64 value = 0;
    for (u32 i = 0; i < count; i++) {
        u8 digit = digits[i];
        if (digit >= '0' && digit <= '9') digit -= '0';
        else if ((digit | 32) >= 'a' && (digit | 32) <= 'f') digit = (digit | 32) - 'a' + 10;
        else return -1;
        value = value << 4 | digit;
    }
    return value;
}

static void put_escape(u32 unit) {
    static const u8 DIGITS[] = "0123456789abcdef";
    *out++ = '\\';
    *out++ = 'u';
    for (int shift = 12; shift >= 0; shift -= 4) *out++ = DIGITS[unit >> shift & 15];
}

// A character as Python's json.dumps writes it.
static bool put_character(i64 code) {
    if (code < 0 || code > 0x10FFFF) return false;
    u8 letter = 0;
    switch (code) {
    case '"': case '\\': letter = (u8)code; break;
    case '\n': letter = 'n'; break;
    case '\r': letter = 'r'; break;
    case '\t': letter = 't'; break;
    case '\f': letter = 'f'; break;
    case '\b': letter = 'b'; break;
    }
    if (letter) {
        *out++ = '\\';
        *out++ = letter;
    } else if (code >= ' ' && code < 0x7F) {
        *out++ = (u8)code;
    } else if (code > 0xFFFF) {
        put_escape(0xD800 + (u32)((code - 0x10000) >> 10));
        put_escape(0xDC00 + (u32)((code - 0x10000) & 0x3FF));
    } else {
        put_escape((u32)code);
    }
    return true;
}

// An escape of repr, from its backslash; those that repr never prints are left to Python, and so are
// those of a literal without u that mean one thing in Python 2 and another in Python 3.
static bool repr_escape(bool has_u) {
    u8 letter = at[1];
    u32 digits = letter == 'x' ? 2 : letter == 'u' ? 4 : letter == 'U' ? 8 : 0;
    i64 code;
    if (digits) code = hex(at + 2, digits);
    else if (letter == '\\' || letter == '\'' || letter == '"') code = letter;
    else if (letter == 'n') code = '\n';
    else if (letter == 'r') code = '\r';
    else if (letter == 't') code = '\t';
    else return false;
    if (!has_u && (digits > 2 || code > 0x7F)) return false;
    at += 2 + digits;
    return put_character(code);
}

// An escape of JSON stays as it is.
static bool json_escape(void) {
    u32 length = 2;
    switch (at[1]) {
    case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r': case 't': break;
    case 'u':
        if (hex(at + 2, 4) < 0) return false;
        length = 6;
        break;
    default: return false;
    }
    memcpy(out, at, 8);
    at += length;
    out += length;
    return true;
}

static bool text(void) {
    bool has_u = is_repr && (*at == 'u' || *at == 'U');
    if (has_u) at++;
    u8 quote = *at;
    if (quote != '"' && !(is_repr && quote == '\'')) return false;
    at++;
    *out++ = '"';
    has_escape = false;
    for (;;) {
        copy_plain(quote);
        if (*at == quote) break;
        has_escape = true;
        if (*at == '\\') {
            if (!(is_repr ? repr_escape(has_u) : json_escape())) return false;
        } else if (*at == '"') {  // inside apostrophes
            at++;
            put_character('"');
        } else {
            return false;
        }
    }
    at++;
    *out++ = '"';
    return true;
}

static inline bool is_digit(u8 byte) { return (u8)(byte - '0') < 10; }

static bool number(u32 *kind) {
    u8 *begin = at;
    *kind = INTEGER;
    if (*at == '-') at++;
    if (*at == '0') at++;
    else {
        if (!is_digit(*at)) return false;
        while (is_digit(*at)) at++;
    }
    if (is_repr && (*at == 'L' || *at == 'l')) {
        u32 length = (u32)(at - begin);
        for (u32 i = 0; i < length; i++) out[i] = begin[i];
        out += length;
        at++;
        return true;
    }
    if (*at == '.') {
        *kind = NUMBER;
        at++;
        if (!is_digit(*at)) return false;
        while (is_digit(*at)) at++;
    }
    if (*at == 'e' || *at == 'E') {
        *kind = NUMBER;
        at++;
        if (*at == '+' || *at == '-') at++;
        if (!is_digit(*at)) return false;
        while (is_digit(*at)) at++;
    }
    for (u8 *byte = begin; byte < at; byte += 16)
        wasm_v128_store(out + (byte - begin), wasm_v128_load(byte));
    out += at - begin;
    return true;
}

static inline bool word(const char *known, u32 length, const char *json, u32 json_length) {
    if (!is_same(at, (const u8 *)known, length)) return false;
    memcpy(out, json, json_length);
    at += length;
    out += json_length;
    return true;
}

static bool value(u32 depth, u32 *kind);

static bool list(u32 depth) {
    if (depth == MAX_DEPTH) return false;
    at++;
    *out++ = '[';
    skip_space();
    while (*at != ']') {
        u32 kind;
        if (!value(depth + 1, &kind)) return false;
        skip_space();
        if (*at == ']') break;
        if (*at != ',') return false;
        at++;
        *out++ = ',';
        skip_space();
        if (*at == ']') return false;  // a comma too many
    }
    at++;
    *out++ = ']';
    return true;
}

static bool object(u32 depth) {
    if (depth == MAX_DEPTH) return false;
    at++;
    *out++ = '{';
    skip_space();
    while (*at != '}') {
        u32 kind;
        if (!text()) return false;
        skip_space();
        if (*at != ':') return false;
        at++;
        *out++ = ':';
        skip_space();
        if (!value(depth + 1, &kind)) return false;
        skip_space();
        if (*at == '}') break;
        if (*at != ',') return false;
        at++;
        *out++ = ',';
        skip_space();
        if (*at == '}') return false;
    }
    at++;
    *out++ = '}';
    return true;
}

static bool value(u32 depth, u32 *kind) {
    switch (*at) {
    case '"': case '\'': case 'u': case 'U':
        *kind = TEXT;
        return text();
    case 'N':
        *kind = NULL_;
        return is_repr && word("None", 4, "null", 4);
    case 'n':
        *kind = NULL_;
        return word("null", 4, "null", 4);
    case 'T':
        *kind = BOOLEAN;
        return is_repr && word("True", 4, "true", 4);
    case 't':
        *kind = BOOLEAN;
        return word("true", 4, "true", 4);
    case 'F':
        *kind = BOOLEAN;
        return is_repr && word("False", 5, "false", 5);
    case 'f':
        *kind = BOOLEAN;
        return word("false", 5, "false", 5);
    case '[':
        *kind = LIST;
        return list(depth);
    case '{':
        *kind = OBJECT;
        return object(depth);
    default:
        return number(kind);
    }
}

// ---- records

static bool vehicle_of(const u8 *digits, const u8 *end, i64 *vehicle) {
    bool is_negative = *digits == '-';
    if (is_negative) digits++;
    if (end - digits > 18) return false;
    i64 found = 0;
    for (; digits < end; digits++) found = found * 10 + (*digits - '0');
    *vehicle = is_negative ? -found : found;
    return true;
}

static inline bool is_named(const u8 *name, u32 length, const char *known, u32 known_length) {
    return length == known_length && is_same(name, (const u8 *)known, length);
}

// Whether the next field begins as one did before; then all of its beginning is read and written.
static inline bool begins_as(const Beginning *known) {
    v128_t first = wasm_v128_xor(wasm_v128_load(at), known->body[0]);
    v128_t second = wasm_v128_xor(wasm_v128_load(at + 16), known->body[1]);
    if (!known->body_length ||
        wasm_v128_any_true(wasm_v128_or(wasm_v128_and(first, known->mask[0]),
                                        wasm_v128_and(second, known->mask[1]))))
        return false;
    wasm_v128_store(out, known->json[0]);
    wasm_v128_store(out + 16, known->json[1]);
    at += known->body_length;
    out += known->json_length;
    return true;
}

static void remember(Beginning *next, const u8 *body_begin, const u8 *json_begin) {
    u32 body_length = (u32)(at - body_begin), json_length = (u32)(out - json_begin);
    if (body_length > 32 || json_length > 32) return;
    u8 mask[32] = {0};
    memset(mask, 0xFF, body_length);
    for (u32 half = 0; half < 2; half++) {
        next->body[half] = wasm_v128_load(body_begin + 16 * half);
        next->json[half] = wasm_v128_load(json_begin + 16 * half);
        next->mask[half] = wasm_v128_load(mask + 16 * half);
    }
    next->body_length = body_length;
    next->json_length = json_length;
}

// From the end of a value, or of the opening brace, to the beginning of the next value.
static bool begin_field(Beginning *next, bool is_first) {
    const u8 *body_begin = at, *json_begin = out;
    next->body_length = 0;  // if it ends early, `next` is of two fields
    skip_space();
    if (!is_first) {
        if (*at != ',') return false;
        at++;
        *out++ = ',';
        skip_space();
    }
    const u8 *name = out + 1;
    if (!text() || has_escape) return false;  // it may be another name in disguise
    u32 length = (u32)(out - 1 - name);
    skip_space();
    if (*at != ':') return false;
    at++;
    *out++ = ':';
    skip_space();
    next->field = field_of(name, length);
    next->is_vehicle = is_named(name, length, "vehicleID", 9);
    if (next->field == MAX_FIELDS || is_named(name, length, "snapshot_time", 13)) return false;
    remember(next, body_begin, json_begin);
    return true;
}

// One record from its opening brace; only where all of it is plain anything is kept.
static bool record(void) {
    struct { u32 field, kind; } seen[MAX_FIELDS];
    u8 *begin = next_text();
    bool has_vehicle = false;
    i64 vehicle = NO_VEHICLE;
    u32 count = 0;
    out = begin;
    *out++ = '{';
    at++;
    for (;; count++) {
        u8 *end_of_value = at;
        skip_space();
        if (*at == '}') break;
        at = end_of_value;
        if (count == MAX_FIELDS) return false;
        Beginning *next = &beginnings[count];
        if (begins_as(next)) skip_space();
        else if (!begin_field(next, count == 0)) return false;
        u8 *begin_of_value = out;
        u32 kind;
        if (!value(0, &kind)) return false;
        if (next->is_vehicle) {
            if (has_vehicle) return false;
            has_vehicle = true;
            if (kind != NULL_ && (kind != INTEGER || !vehicle_of(begin_of_value, out, &vehicle)))
                return false;
        }
        seen[count].field = next->field;
        seen[count].kind = kind;
    }
    at++;
    for (u32 i = 0; i < count; i++) fields[seen[i].field].counts[seen[i].kind]++;
    add_record(vehicle, (u32)(out - begin));
    return true;
}

// The end of a record of which only strings and braces are known, or 0 where it has none.
static u8 *end_of_record(u8 *byte) {
    u32 depth = 0;
    for (; byte < body_end; byte++) {
        u8 here = *byte;
        if (here == '{' || here == '[') {
            depth++;
        } else if (here == '}' || here == ']') {
            if (--depth == 0) return byte + 1;
        } else if (here == '"' || (is_repr && here == '\'')) {
            for (byte++; byte < body_end && *byte != here; byte++)
                if (*byte == '\\') byte++;
        }
    }
    return 0;
}

// Reads on to the end of the snapshot, or to just after a record that needs more care: then gives
// where in the body it begins, in the upper half, and ends.
EXPORT(read) u64 read(void) {
    if (!is_in_list) {
        skip_space();
        if (*at != '[') return NOT_READ;
        at++;
        skip_space();
        is_in_list = true;
        if (*at == ']') goto end_of_list;
    } else {
        goto after_record;
    }
    for (;;) {
        if (*at != '{') return NOT_READ;
        u8 *begin = at;
        if (!record()) {
            u8 *end_of_odd = end_of_record(begin);
            if (!end_of_odd) return NOT_READ;
            at = end_of_odd;
            return (u64)(begin - body) << 32 | (u32)(at - body);
        }
    after_record:
        skip_space();
        if (*at == ']') break;
        if (*at != ',') return NOT_READ;
        at++;
        skip_space();
    }
end_of_list:
    at++;
    skip_space();
    return at == body_end ? READ : NOT_READ;
}

// The snapshot in `body`, and behind it what stands in place of each record's closing brace: begins
// to read it, as `read` does. NO_MEMORY where it might not fit.
EXPORT(open) u64 open(u32 length, u32 end_length, bool repr) {
    if (!reserve(records_end, room_for(length))) return NO_MEMORY;
    before.records_end = records_end;
    before.index = index;
    before.index_count = index->count;
    before.records_count = records_count;
    before.longest_line = longest_line;
    before.lines_bytes = lines_bytes;
    before.field_count = field_count;
    before.names_length = names_length;
    memcpy(before.fields, fields, field_count * sizeof(Field));

    ends->records = 0;
    ends->length = end_length;
    memcpy(ends->text, body + length, end_length);
    end = ends++;
    body_end = body + length;
    memset(body_end, 0, SLACK);  // stops every loop
    at = body;
    if (is_repr != repr) forget_beginnings();
    is_repr = repr;
    is_in_list = false;
    return read();
}

EXPORT(ends_at) End *ends_at(void) { return first_end; }
EXPORT(count) u32 count(void) { return records_count; }
EXPORT(size_of_lines) u64 size_of_lines(void) { return lines_bytes; }
