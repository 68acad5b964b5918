// The lines of an hour: every record once, in order, each with its snapshot's end.
//
// By vehicle, then time: records came in the order of time, so sorting them by vehicle, with no
// other change, gives both. Or as they came, snapshot by snapshot.

#include "kernel.h"

static u32 *order;        // addresses of the records, in the order of their lines
static u8 *behind_order;  // where free memory begins

// A stable sort by eight bytes, the lowest first; bytes that are the same in all need no turn.
static void sort_by_vehicle(u64 *keys, u64 *spare_keys, u32 *addresses, u32 *spare_addresses,
                            u64 different) {
    u64 *sorted_keys = keys;
    order = addresses;
    for (u32 shift = 0; shift < 64; shift += 8) {
        if (!(different >> shift & 0xFF)) continue;
        u32 places[256] = {0};
        for (u32 i = 0; i < records_count; i++) places[sorted_keys[i] >> shift & 0xFF]++;
        for (u32 value = 0, sum = 0; value < 256; value++) {
            u32 here = places[value];
            places[value] = sum;
            sum += here;
        }
        for (u32 i = 0; i < records_count; i++) {
            u32 place = places[sorted_keys[i] >> shift & 0xFF]++;
            spare_keys[place] = sorted_keys[i];
            spare_addresses[place] = order[i];
        }
        u64 *keys_before = sorted_keys;
        sorted_keys = spare_keys;
        spare_keys = keys_before;
        u32 *addresses_before = order;
        order = spare_addresses;
        spare_addresses = addresses_before;
    }
    if (sorted_keys != keys) memcpy(keys, sorted_keys, (size_t)records_count * sizeof *keys);
}

// Puts the records in order. Returns each vehicle once, `vehicles_count` of them, in numerical
// order with 2^63 added (so that they sort as whole numbers); 0: no memory.
static u32 count_of_vehicles;
EXPORT(sort) u64 *sort(bool by_vehicle) {
    u64 *keys = (u64 *)(((uintptr_t)records_end + 7) & ~(uintptr_t)7);
    // Positions in the text are counted in 32 bits.
    if (lines_bytes >> 32 || !reserve((u8 *)keys, (u64)records_count * 28)) return 0;
    u64 *spare_keys = keys + records_count;
    u32 *addresses = (u32 *)(spare_keys + records_count);
    u32 *spare_addresses = addresses + records_count;
    u32 *as_they_came = spare_addresses + records_count;
    behind_order = (u8 *)(as_they_came + records_count);

    u64 different = 0;
    u32 count = 0;
    for (const Index *index = first_index; count < records_count; index = index->next) {
        for (u32 i = 0; i < index->count; i++, count++) {
            addresses[count] = as_they_came[count] = index->addresses[i];
            keys[count] = load8((const u8 *)(uintptr_t)index->addresses[i]) ^ 1ull << 63;
            different |= keys[count] ^ keys[0];
        }
    }
    sort_by_vehicle(keys, spare_keys, addresses, spare_addresses, different);
    if (!by_vehicle) order = as_they_came;
    count_of_vehicles = 0;
    for (u32 i = 0; i < records_count; i++)
        if (i == 0 || keys[i] != keys[count_of_vehicles - 1]) keys[count_of_vehicles++] = keys[i];
    return keys;
}

EXPORT(vehicles_count) u32 vehicles_count(void) { return count_of_vehicles; }

static u8 *put_line(u8 *to, u32 address) {
    const Record *record = (const Record *)(uintptr_t)address;
    const End *end = (const End *)(uintptr_t)record->end;
    u32 no_comma = record->length == 1;  // a record without fields: an only brace
    memcpy(to, record + 1, record->length);
    to += record->length;
    memcpy(to, end->text + no_comma, end->length - no_comma);
    return to + end->length - no_comma;
}

// All lines as one text, `size_of_lines` long; 0: no memory.
EXPORT(lines) u8 *lines(void) {
    if (!reserve(behind_order, lines_bytes)) return 0;
    u8 *to = behind_order;
    for (u32 i = 0; i < records_count; i++) to = put_line(to, order[i]);
    return behind_order;
}

// All lines as one segment, `segment_size` long; 0: no memory.
static u32 size_of_segment;
EXPORT(segment) u8 *segment(void) {
    u8 *begin, *to = deflate_begin(behind_order, longest_line);
    for (u32 i = 0; to && i < records_count; i++) to = deflate_line(put_line(to, order[i]));
    u8 *end = to ? deflate_end(&begin) : 0;
    if (!end) return 0;
    size_of_segment = (u32)(end - begin);
    return begin;
}

EXPORT(segment_size) u32 segment_size(void) { return size_of_segment; }

// Where a stream can be put for `segment_of_stream`, over what `lines` has left; 0: no memory.
EXPORT(stream_at) u8 *stream_at(u32 length) {
    return reserve(behind_order, (u64)length + SLACK) ? behind_order : 0;
}
