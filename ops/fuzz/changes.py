"""How an input is changed: by bytes, and by the tokens of the JSON, repr or XML that it is.

`changed` makes a new input of one or two that are there. All chance comes from the generator that
it is given: the same generator, the same inputs.
"""

import random
import re
from collections.abc import Callable, Sequence

LONGEST = 3000
"""Bytes of an input: longer ones reach nothing that shorter ones do not, and take longer."""

BETWEEN_PARTS = b"\x1e"
"""Between the parts of an input that has several, such as the snapshots of an hour."""

_TOKEN = re.compile(
    rb"""[uU]?"(?:[^"\\]|\\.)*"|[uU]?'(?:[^'\\]|\\.)*'|</?[\w:]+>|[\w.+-]+|\s+|.""", re.DOTALL
)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_NUMBERS = (
    *(b"0", b"-0", b"1", b"-1", b"007", b"1.0", b"-0.0", b"1e5", b"1E-5", b"1e999", b"1.", b".5"),
    *(b"9" * 17, b"9" * 18, b"9" * 19, b"1" + b"0" * 18, b"%d" % 2**31, b"%d" % 2**32),
    *(b"%d" % 2**61, b"%d" % 2**62, b"%d" % (3 * 2**61), b"%d" % 2**63, b"-%d" % 2**63),
    *(b"12L", b"0L", b"1_0", b"0x10", b"NaN", b"Infinity", b"1" * 300, "٣".encode()),
)
_TIMES = (2, 2, 3, 3, 5, 8, 17, 33, 64, 257, 1000)

Change = Callable[[bytes, bytes, Sequence[bytes], random.Random], bytes]


def changed(
    data: bytes,
    other: bytes,
    scraps: Sequence[bytes],
    chance: random.Random,
    longest: int = LONGEST,
) -> bytes:
    """`data` after one to four changes; `other` is another input, `scraps` what to put in."""
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 4))):
        data = chance.choice(_CHANGES)(data, other, scraps, chance)
    return data[:longest]


def _span(data: bytes, chance: random.Random, longest: int = 64) -> tuple[int, int]:
    begin = chance.randrange(len(data) + 1)
    return begin, min(len(data), begin + chance.randrange(1, longest + 1))


def _put(data: bytes, _: bytes, scraps: Sequence[bytes], chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.choice(scraps) + data[at:]


def _replace(data: bytes, _: bytes, scraps: Sequence[bytes], chance: random.Random) -> bytes:
    begin, end = _span(data, chance, 8)
    return data[:begin] + chance.choice(scraps) + data[end:]


def _remove(data: bytes, _: bytes, _scraps: Sequence[bytes], chance: random.Random) -> bytes:
    begin, end = _span(data, chance, chance.choice((1, 8, 64, 512)))
    return data[:begin] + data[end:]


def _repeat(data: bytes, _: bytes, _scraps: Sequence[bytes], chance: random.Random) -> bytes:
    begin, end = _span(data, chance, chance.choice((1, 4, 64, 512)))
    return data[:end] + data[begin:end] * (chance.choice(_TIMES) - 1) + data[end:]


def _byte(data: bytes, _: bytes, _scraps: Sequence[bytes], chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    value = data[at] ^ 1 << chance.randrange(8) if at < len(data) else 0
    return data[:at] + bytes([chance.choice((value, chance.randrange(256)))]) + data[at + 1 :]


def _cut(data: bytes, _: bytes, _scraps: Sequence[bytes], chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return chance.choice((data[:at], data[at:]))


def _splice(data: bytes, other: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    begin, end = _span(data, chance, 512)
    from_, to = _span(other, chance, 512)
    return data[:begin] + other[from_:to] + data[chance.choice((begin, end)) :]


def _tokens(data: bytes, other: bytes, scraps: Sequence[bytes], chance: random.Random) -> bytes:
    """Whole tokens are moved, doubled, dropped, or exchanged for those of another input."""
    tokens = _TOKEN.findall(data)
    others = _TOKEN.findall(other) or [b""]
    for _ in range(chance.choice((1, 1, 2, 4))):
        if not tokens:
            break
        at, length = chance.randrange(len(tokens)), chance.choice((1, 1, 1, 2, 4, 16))
        from_ = chance.randrange(len(others))
        tokens[at : at + length] = chance.choice(
            (
                [],
                tokens[at : at + length] * 2,
                [chance.choice(scraps)],
                others[from_ : from_ + length],
                tokens[at : at + length][::-1],
                [_TOKEN.sub(lambda token: token[0] + b" ", b"".join(tokens[at : at + length]))],
            )
        )
    return b"".join(tokens)


def _parts(data: bytes, other: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """Whole parts come from another input, go, or change places."""
    parts, others = data.split(BETWEEN_PARTS), other.split(BETWEEN_PARTS)
    parts.insert(chance.randrange(len(parts) + 1), chance.choice(others))
    if chance.random() < 0.5:
        chance.shuffle(parts)
        parts = parts[: chance.choice((1, 2, 3, 8))]
    return BETWEEN_PARTS.join(parts)


def _number(data: bytes, _: bytes, _scraps: Sequence[bytes], chance: random.Random) -> bytes:
    found = list(_NUMBER.finditer(data))
    if not found:
        return data
    number = chance.choice(found)
    return data[: number.start()] + chance.choice(_NUMBERS) + data[number.end() :]


_CHANGES: tuple[Change, ...] = (
    *(_put, _put, _replace, _remove, _repeat, _byte, _cut, _splice, _splice),
    *(_tokens, _tokens, _tokens, _number, _parts),
)
