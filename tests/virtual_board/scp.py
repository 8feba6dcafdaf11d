"""Requests of spinnman's own making as the datagrams that it would send, and its own reading of the answers."""

import struct

from spinnman.messages.scp.enums import Signal
from spinnman.messages.scp.impl import (
    AppCopyRun,
    ApplicationRun,
    AppStop,
    CountState,
    DoSync,
    FillRequest,
    FixedRouteInit,
    FixedRouteRead,
    GetChipInfo,
    GetVersion,
    IPTagClear,
    IPTagGet,
    IPTagGetInfo,
    IPTagSet,
    IPTagSetTTO,
    ReadLink,
    ReadMemory,
    ReverseIPTagSet,
    RouterAlloc,
    RouterClear,
    RouterInit,
    SDRAMAlloc,
    SDRAMDeAlloc,
    SendSignal,
    WriteLink,
    WriteMemory,
)
from spinnman.messages.scp.impl.iptag_set_tto import IPTAG_TIME_OUT_WAIT_TIMES
from spinnman.model.enums import CPUState

PADDING = 2
SDP = struct.Struct("<BBBBHH")  # flags, tag, port and core to, from, chip to, from
SCP = struct.Struct("<HHIII")  # command, sequence, arguments
REPLY, NO_REPLY = 0x87, 0x07
ANY_TAG, FROM_HOST, ROOT = 0xFF, 0xFF, 0xFFFF
OK = 0x80


def datagram(request, sequence=0):
    """What spinnman's SCAMPConnection sends for one of its requests."""
    request.sdp_header.update_for_send(0, 0)
    request.scp_request_header.sequence = sequence
    return bytes(PADDING) + request.bytestring


def raw(
    command, arg1=0, arg2=0, arg3=0, data=b"", *, chip=(0, 0), core=0, port=0, flags=REPLY, sequence=1, tag=ANY_TAG
):
    """A request by hand, for what spinnman would never send."""
    header = SDP.pack(flags, tag, port << 5 | core, FROM_HOST, chip[0] << 8 | chip[1], 0)
    return bytes(PADDING) + header + SCP.pack(command, sequence, arg1, arg2, arg3) + data


def code(answer):
    """The return code of an answer."""
    return struct.unpack_from("<H", answer, PADDING + SDP.size)[0]


def sequence(answer):
    """The sequence number of an answer."""
    return struct.unpack_from("<H", answer, PADDING + SDP.size + 2)[0]


def body(answer):
    """What follows an answer's sequence number."""
    return answer[PADDING + SDP.size + 4 :]


def read(request, answer):
    """The answer as spinnman reads it; raises as spinnman does if it is a refusal."""
    response = request.get_scp_response()
    response.read_bytestring(answer, PADDING)
    return response


def route_table(routes):
    """The table that RTR loads: (entry, key, mask, route)."""
    rows = (struct.pack("<HHIII", entry, 0, route, key, mask) for entry, key, mask, route in routes)
    return b"".join(rows)


def requests():
    """One of each request that spinnman makes, most for version 3, in an order that makes sense."""
    table = 0x67800000
    return [
        GetVersion(0, 0, 0),
        IPTagSetTTO(0, 0, IPTAG_TIME_OUT_WAIT_TIMES.TIMEOUT_2560_ms),
        IPTagGetInfo(0, 0),
        *(GetChipInfo(x, y) for x in (0, 1) for y in (0, 1)),
        ReadMemory((0, 0, 0), 0xF5007F00, 256),
        ReadMemory((1, 0, 0), 0xE1010000, 32),
        WriteMemory((0, 1, 0), 0xF100002C, struct.pack("<I", 0xFFFFFFFF)),
        DoSync(True),
        RouterClear(1, 1),
        SDRAMAlloc(0, 0, 30, 1000, 1),
        SDRAMAlloc(1, 1, 30, 123456, 0),
        WriteMemory((0, 0, 0), table, route_table([(0, 1, 0xFFFFFFFF, 1 << 7)])),
        RouterAlloc(0, 0, 30, 10),
        RouterInit(0, 0, 1, table, 1, 30),
        FixedRouteInit(0, 0, 1 << 7, 30),
        FixedRouteRead(0, 0, 30),
        IPTagSet(0, 0, [127, 0, 0, 1], 50000, 1, strip=True),
        IPTagSet(0, 0, [0, 0, 0, 0], 0, 2, use_sender=True),
        IPTagGet(0, 0, 1),
        ReverseIPTagSet(0, 0, 1, 1, 3, 50001, 3, 1),
        IPTagClear(0, 0, 3),
        FillRequest(0, 0, 0x60300000, 0xA5A5A5A5, 4096),
        WriteLink((0, 0, 0), 0, 0x60300000, b"over the link"),
        ReadLink((0, 0, 0), 2, 0x60300000, 64),
        ApplicationRun(30, 0, 0, [1, 2, 3], wait=True),
        AppCopyRun(1, 0, 3, 256, 30, [1, 17], 0),
        CountState(0, 0, 30, CPUState.RUNNING),
        SendSignal(30, Signal.START),
        SendSignal(30, Signal.SYNC0),
        SendSignal(30, Signal.SYNC1),
        SDRAMDeAlloc(0, 0, app_id=30),
        SDRAMDeAlloc(0, 0, base_address=0x60240018),
        AppStop(30),
    ]
