"""The bytes of the wire: golden frames, round trips, and whatever else may arrive."""

import re
import struct
import zlib
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from spikeloop.bridges import wire
from spikeloop.bridges.wire import (
    MAX_FRAME,
    TYPES,
    UNNUMBERED,
    Bye,
    Error,
    ErrorCode,
    Hello,
    Inject,
    InputKind,
    Message,
    Ping,
    Pong,
    Readout,
    Reset,
    ResetDone,
    Welcome,
    decode,
    encode,
)
from spikeloop.errors import LocalProtocolError, WireError


def f64s(*values):
    return np.array(values, np.float64)


def u32s(*values):
    return np.array(values, np.uint32)


def u16s(*values):
    return np.array(values, np.uint16)


WELCOME = Welcome(
    "ab12", "cartpole", "reference", "reference", "0.1.0", 4, 4, 2, 20, u32s(17, 2), True, 1.0, 0.1, 2.5, "potential"
)

# Generated once, then fixed: a change here is another version of the wire format.
GOLDEN = [
    (
        Hello("env", "ab12"),
        0,
        "53504b4c0201000000000000000000000f000000e63e75e20300000004000000656e7661623132",
    ),
    (
        WELCOME,
        0,
        "53504b4c0202000000000000000000007900000031cf1db5040000000800000009000000090000000500000004000000"
        "0400000002000000140000000200000001000000000000f03f9a9999999999b93f000000000000044009000000616231"
        "3263617274706f6c657265666572656e63657265666572656e6365302e312e301100000002000000706f74656e746961"
        "6c",
    ),
    (
        Reset(3, True, 42),
        1,
        "53504b4c020300000100000000000000110000007c9b42fc0300000000000000012a00000000000000",
    ),
    (ResetDone(3), 1, "53504b4c020400000100000000000000080000008d05c9ac0300000000000000"),
    (
        Inject(InputKind.OBSERVATION, True, f64s(0.5, -1.0)),
        2,
        "53504b4c0205000002000000000000001e000000f62e61ee0001020000000000000000000000000000000000e03f000000000000f0bf",
    ),
    (
        Inject(InputKind.SPIKES, False, f64s(), u32s(1, 3), u32s(0, 19)),
        3,
        "53504b4c0205000003000000000000001e0000002a1ca288020000000000020000000200000001000000030000000000000013000000",
    ),
    (
        Readout(
            1,
            f64s(0.25, 0.75),
            f64s(1, 2, 3, 4, 5),
            True,
            True,
            u16s(0, 1),
            u32s(16, 1),
            u32s(5, 6),
            u32s(2, 0, 1),
            120.5,
        ),
        2,
        "53504b4c0206000002000000000000007e000000da5e1ef6010000000200000005000000010102000000020000000200"
        "0000030000000000000000205e40000000000000d03f000000000000e83f000000000000f03f00000000000000400000"
        "000000000840000000000000104000000000000014400000010010000000010000000500000006000000020000000000"
        "000001000000",
    ),
    (Ping(), UNNUMBERED, "53504b4c02070000ffffffffffffffff00000000bae1d138"),
    (Pong(), UNNUMBERED, "53504b4c02080000ffffffffffffffff0000000074774e7b"),
    (Bye("done"), UNNUMBERED, "53504b4c02090000ffffffffffffffff0800000027a11b7704000000646f6e65"),
    (Error(ErrorCode.BUSY, "full"), 7, "53504b4c02ff000007000000000000000a0000004b7816e204000400000066756c6c"),
]
FRAMES = [bytes.fromhex(text) for _, _, text in GOLDEN]
NAMES = [f"{type(message).__name__}-{number}" for message, number, _ in GOLDEN]


def frame_of(payload=b"", *, magic=b"SPKL", version=2, number=7, flags=0, sequence=0, length=None, crc=None):
    """A frame made by hand from the page that describes it, independent of the code."""
    length = len(payload) if length is None else length
    head = magic + struct.pack("<BBHQI", version, number, flags, sequence, length)
    crc = zlib.crc32(head + bytes(4) + payload) if crc is None else crc
    return head + struct.pack("<I", crc) + payload


class TestGoldenFrames:
    @pytest.mark.parametrize(("message", "number", "text"), GOLDEN, ids=NAMES)
    def test_is_written(self, message, number, text):
        assert encode(message, number).hex() == text

    @pytest.mark.parametrize(("message", "number", "text"), GOLDEN, ids=NAMES)
    def test_is_read(self, message, number, text):
        assert decode(bytes.fromhex(text)) == (number, message)

    def test_there_is_one_of_every_type(self):
        assert {type(message) for message, _, _ in GOLDEN} == set(TYPES.values())

    def test_a_frame_made_by_hand_is_the_same(self):
        payload = struct.pack("<II", 3, 4) + b"env" + b"ab12"
        assert frame_of(payload, number=1) == FRAMES[0]

    def test_the_error_of_another_version_is_read(self):
        payload = struct.pack("<HI", 57, 4) + b"full"
        number, error = decode(frame_of(payload, version=9, number=255, sequence=7))
        assert (number, error.code, error.code_name, error.message) == (7, 57, "CODE_57", "full")


# --- round trips -----------------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
floats = st.floats(allow_nan=True, allow_infinity=True)


def arrays(dtype):
    return hnp.arrays(dtype, st.integers(0, 20))


FIELDS = [
    (wire.U16, u16),
    (wire.U32, u32),
    (wire.U64, u64),
    (wire.I32, st.integers(-(2**31), 2**31 - 1)),
    (wire.F64, floats),
    (wire.Bool, st.booleans()),
    (wire.Kind, st.sampled_from(InputKind)),
    (wire.Text, texts),
    (wire.F64s, arrays(np.float64)),
    (wire.U32s, arrays(np.uint32)),
    (wire.U16s, arrays(np.uint16)),
]


def messages_of(kind):
    hints = get_type_hints(kind, include_extras=True).items()
    return st.builds(kind, **{name: next(s for codec, s in FIELDS if codec == hint) for name, hint in hints})


any_message = st.one_of([messages_of(kind) for kind in TYPES.values()])


class TestRoundTrip:
    @pytest.mark.parametrize("kind", TYPES.values(), ids=lambda kind: kind.__name__)
    def test_every_field_comes_back(self, kind):
        names = list(get_type_hints(kind))

        @settings(deadline=None)
        @given(messages_of(kind), u64)
        def check(message, number):
            back_number, back = decode(encode(message, number))
            assert back_number == number
            assert type(back) is kind
            for name in names:
                sent, got = getattr(message, name), getattr(back, name)
                assert type(got) is type(sent)
                if isinstance(sent, np.ndarray):
                    assert got.dtype == sent.dtype
                    assert got.tobytes() == sent.tobytes()
                    assert got.flags.aligned
                    assert got.flags.writeable
                elif isinstance(sent, float):
                    assert struct.pack("<d", got) == struct.pack("<d", sent)
                else:
                    assert got == sent

        check()

    def test_equality_is_that_of_the_bytes(self):
        assert Readout(1, f64s(1), f64s(2)) == Readout(1, f64s(1), f64s(2))
        assert Readout(1, f64s(1), f64s(2)) != Readout(1, f64s(1), f64s(3))
        assert Ping() != Pong()
        assert Reset(1) != "Reset"
        assert len({ResetDone(1), ResetDone(1), ResetDone(2)}) == 2


class TestWhatCannotBeSent:
    @pytest.mark.parametrize(
        ("message", "why"),
        [
            (ResetDone(-1), "ResetDone"),
            (ResetDone(2**64), "ResetDone"),
            (ResetDone(0.5), "ResetDone"),
            (Hello("\udc80"), "Hello.client"),
            (Inject(InputKind.CURRENTS, False, np.zeros((1, 2))), r"shape is \(1, 2\)"),
            (Inject(InputKind.CURRENTS, False, np.array(1.0)), "Inject cannot be sent"),
            (Inject(InputKind.SPIKES, False, f64s(), np.array([-1]), u32s(0)), "fit uint32"),
            (Inject(InputKind.SPIKES, False, f64s(), np.array([0.5]), u32s(0)), "fit uint32"),
            (Readout(0, np.zeros(MAX_FRAME // 8), f64s()), f"at most {MAX_FRAME}"),
        ],
    )
    def test_is_refused_here(self, message, why):
        with pytest.raises(LocalProtocolError, match=why):
            encode(message, 0)

    @pytest.mark.parametrize("number", [-1, 2**64])
    def test_numbers_have_64_bits(self, number):
        with pytest.raises(LocalProtocolError, match="64 bits"):
            encode(Ping(), number)

    def test_other_number_types_are_converted(self):
        sent = Inject(InputKind.SPIKES, False, np.ones(2, np.float32), np.array([3, 4]), np.array([0, 1], np.uint8))
        assert decode(encode(sent, 0))[1] == Inject(InputKind.SPIKES, False, f64s(1, 1), u32s(3, 4), u32s(0, 1))


# --- hostile bytes ---------------------------------------------------------------------------------------------------


class TestHostileBytes:
    @pytest.mark.parametrize(
        ("frame", "why"),
        [
            (b"", "0 bytes were given; a frame has at least the 24"),
            (FRAMES[0][:23], "23 bytes were given"),
            (bytes(MAX_FRAME + 1), f"at most {MAX_FRAME} are allowed"),
            (frame_of(magic=b"HTTP"), "begins with b'HTTP'"),
            (frame_of(length=8), "announces 8 bytes of payload, but 0 follow"),
            (frame_of(crc=0), "damaged"),
            (frame_of(version=1), "version 1 of the wire format; this side speaks version 2"),
            (frame_of(version=0, number=99), "version 0"),
            (frame_of(flags=1), "flags are 0x0001"),
            (frame_of(number=77), "no message of type 77"),
            (frame_of(b"x"), "Ping needs a payload of 0 bytes; 1 were given"),
            (frame_of(bytes(7), number=4), "ResetDone needs a payload of 8 bytes; 7 were given"),
            (frame_of(bytes(9), number=4), "ResetDone needs a payload of 8 bytes; 9 were given"),
            (frame_of(b"\xff" * 4, number=9), "Bye needs a payload of 4294967299 bytes; 4 were given"),
            (frame_of(struct.pack("<I", 1) + b"\xff", number=9), "Bye.reason is not UTF-8"),
            (frame_of(struct.pack("<QBQ", 0, 2, 0), number=3), "Reset.has_seed is 2"),
            (frame_of(struct.pack("<BBIII", 3, 0, 0, 0, 0), number=5), "Inject.kind is 3"),
        ],
    )
    def test_is_refused_with_a_reason(self, frame, why):
        with pytest.raises(WireError, match=why):
            decode(frame)

    @settings(deadline=None)
    @given(st.binary(max_size=200))
    def test_random_bytes(self, data):
        with pytest.raises(WireError):
            decode(data)

    @settings(deadline=None)
    @given(st.integers(0, 255), st.binary(max_size=120), st.integers(0, 1))
    def test_random_payloads_behind_a_good_header(self, number, payload, version):
        try:
            _, message = decode(frame_of(payload, number=number, version=version))
        except WireError:
            return
        assert encode(message, 0)[24:] == payload  # what is accepted has one spelling only

    @settings(deadline=None)
    @given(st.sampled_from(FRAMES), st.data())
    def test_every_change_of_a_byte_is_noticed(self, frame, data):
        at = data.draw(st.integers(0, len(frame) - 1))
        changed = bytearray(frame)
        changed[at] ^= data.draw(st.integers(1, 255))
        with pytest.raises(WireError):
            decode(bytes(changed))

    @pytest.mark.parametrize("frame", FRAMES, ids=NAMES)
    def test_every_truncation_is_noticed(self, frame):
        for end in range(len(frame)):
            with pytest.raises(WireError):
                decode(frame[:end])

    @settings(deadline=None)
    @given(any_message, st.data())
    def test_every_truncated_or_longer_payload_is_noticed(self, message, data):
        payload = encode(message, 0)[24:]
        number = next(number for number, kind in TYPES.items() if kind is type(message))
        assert decode(frame_of(payload, number=number))[1] == message
        with pytest.raises(WireError):
            decode(frame_of(payload + data.draw(st.binary(min_size=1, max_size=9)), number=number))
        if payload:
            with pytest.raises(WireError):
                decode(frame_of(payload[: data.draw(st.integers(0, len(payload) - 1))], number=number))


def test_messages_cannot_be_changed():
    with pytest.raises(AttributeError):
        ResetDone(1).episode = 2
    assert not hasattr(Ping(), "__dict__")
    assert issubclass(Ping, Message)


SPELLED = {
    "u8": wire.Kind, "u16": wire.U16, "u32": wire.U32, "u64": wire.U64, "i32": wire.I32, "f64": wire.F64,
    "bool": wire.Bool, "str": wire.Text, "f64[]": wire.F64s, "u32[]": wire.U32s, "u16[]": wire.U16s,
}  # fmt: skip


class TestThePage:
    """docs/wire.md, from which others write their clients, says what the code does."""

    PAGE = (Path(__file__).parents[2] / "docs" / "wire.md").read_text()

    def rows(self):
        return re.findall(r"^\| (\d+) \| (\w+) \| (.+?) \| (.*)\|$", self.PAGE, re.M)

    def test_its_messages_are_ours_field_by_field(self):
        page = {}
        for number, name, _, fields in self.rows():
            if name in {kind.__name__ for kind in TYPES.values()}:
                page[int(number)] = name, re.findall(r"(\w+) `([^`]+)`", fields)
        assert page.keys() == TYPES.keys()
        for number, kind in TYPES.items():
            name, fields = page[number]
            assert name == kind.__name__
            hints = get_type_hints(kind, include_extras=True)
            assert [(field, SPELLED[spelled]) for field, spelled in fields] == list(hints.items())

    def test_its_error_codes_are_ours(self):
        codes = {name: int(number) for number, name, _, _ in self.rows() if name.isupper()}
        assert codes == {code.name: int(code) for code in ErrorCode}

    def test_its_example_is_the_golden_frame(self):
        digits = re.findall(r"^    ((?:[0-9a-f]+ )+) ", self.PAGE, re.M)
        assert "".join(digits).replace(" ", "") == GOLDEN[0][2]
