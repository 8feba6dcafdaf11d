"""A client against a host that the test plays."""

import threading
import time

import numpy as np
import pytest
from spikeloop.bridges import wire
from spikeloop.bridges.client import RemoteAgent
from spikeloop.bridges.wire import Error, ErrorCode, Ping, Pong, Readout, ResetDone, Welcome, encode
from spikeloop.errors import HostLostError, LocalProtocolError, RefusedError, RemoteProtocolError
from spikeloop.tests.bridges.exchanges import READOUT, WELCOME, observation, u32s


class TestUnreliableHosts:
    def play(self, host, script):
        """Welcome the client, then run ``script(sender)`` in a thread."""

        def run():
            sender, _ = host.receive()
            host.send(sender, WELCOME, 0)
            script(sender)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def test_an_unanswered_request_is_sent_again_as_it_was(self, bare_host):
        frames = []

        def script(sender):
            for _ in range(3):
                frames.append(bare_host.receive()[1])
            bare_host.send(sender, READOUT, 1)

        thread = self.play(bare_host, script)
        with RemoteAgent(bare_host.address, timeout_s=0.1, retries=2) as remote:
            assert remote.decide([1.0, 2.0]).action == 1
        thread.join()
        assert frames == [encode(observation(1.0, 2.0), 1)] * 3

    def test_pongs_alone_keep_the_client_waiting(self, bare_host):
        def script(sender):
            end = time.monotonic() + 0.4
            while time.monotonic() < end:
                bare_host.send(sender, Pong(), 0)
                time.sleep(0.02)
            time.sleep(0.2)  # the patience begins anew with every Pong
            bare_host.send(sender, READOUT, 1)

        thread = self.play(bare_host, script)
        with RemoteAgent(bare_host.address, timeout_s=0.1, retries=3) as remote:
            assert remote.decide([1.0, 2.0]).action == 1
        thread.join()

    def test_the_client_pings_while_it_waits(self, bare_host):
        pings = []

        def script(sender):
            bare_host.receive()
            for _ in range(3):
                pings.append(wire.decode(bare_host.receive(pings=True)[1])[1])
            bare_host.send(sender, READOUT, 1)

        thread = self.play(bare_host, script)
        with RemoteAgent(bare_host.address, heartbeat_s=0.03) as remote:
            assert remote.decide([1.0, 2.0]).action == 1
        thread.join()
        assert pings == [Ping()] * 3

    def test_silence_is_a_lost_host(self, bare_host):
        thread = self.play(bare_host, lambda sender: None)
        with RemoteAgent(bare_host.address, timeout_s=0.1, retries=1) as remote:
            start = time.monotonic()
            with pytest.raises(HostLostError, match=rf"The host at {bare_host.address} has not answered for 0\.2 s"):
                remote.decide([1.0, 2.0])
            assert 0.2 <= time.monotonic() - start < 0.5
            with pytest.raises(LocalProtocolError, match="has not answered"):
                remote.decide([1.0, 2.0])
        thread.join()

    def test_a_pause_of_the_caller_is_no_silence_of_the_host(self, bare_host):
        thread = self.play(bare_host, lambda sender: bare_host.send(sender, READOUT, 1))
        with RemoteAgent(bare_host.address, timeout_s=0.05, retries=0) as remote:
            remote.submit([1.0, 2.0])
            time.sleep(0.2)
            assert remote.poll().action == 1
        thread.join()

    def test_stale_answers_are_dropped(self, bare_host):
        def script(sender):
            bare_host.receive()
            bare_host.send(sender, ResetDone(0), 1)
            bare_host.receive()
            bare_host.send(sender, WELCOME, 0)
            bare_host.send(sender, ResetDone(0), 1)
            bare_host.send(sender, READOUT, 2)

        thread = self.play(bare_host, script)
        with RemoteAgent(bare_host.address) as remote:
            remote.reset()
            assert remote.decide([1.0, 2.0]).action == 1
        thread.join()

    @pytest.mark.parametrize(
        ("answer", "why"),
        [
            (b"garbage", "no message: 7 bytes were given"),
            (ResetDone(0), "The host sent ResetDone while an Inject waits"),
            (Readout(1, np.zeros(2), np.zeros(5)), "2 outputs and 5 timings; 3 and 5"),
            (Readout(1, np.zeros(3), np.zeros(4)), "3 outputs and 4 timings; 3 and 5"),
            ((u32s(2), u32s(0), u32s(0)), "does not have"),
            ((u32s(0), u32s(3), u32s(0)), "does not have"),
            ((u32s(0), u32s(0), u32s(5)), "does not have"),
            ((u32s(0, 1), u32s(0), u32s(0)), "does not have"),
            ((u32s(*[1] * 256), u32s(*[3] * 256), u32s(*[4] * 256)), "more than 255 spikes"),
        ],
    )
    def test_nonsense_is_the_hosts_fault_and_ends_it(self, bare_host, answer, why):
        if isinstance(answer, tuple):
            layers, neurons, steps = answer
            answer = Readout(1, np.zeros(3), np.zeros(5), False, True, layers.astype(np.uint16), neurons, steps)
        frame = answer if isinstance(answer, bytes) else encode(answer, 1)
        thread = self.play(bare_host, lambda sender: bare_host.socket.send_multipart([sender, frame]))
        with RemoteAgent(bare_host.address) as remote:
            with pytest.raises(RemoteProtocolError, match=why):
                remote.decide([1.0, 2.0])
            with pytest.raises(LocalProtocolError, match="make another remote agent"):
                remote.reset()
        thread.join()

    def test_rasters_beyond_belief_are_not_allocated(self, bare_host):
        huge = Welcome("", "", "", "", "", 2, 3, 3, 2**32 - 1, u32s(2**32 - 1), False, 0.0, 1.0, 5.0, "")
        readout = Readout(1, np.zeros(3), np.zeros(5), False, True)

        def run():
            sender, _ = bare_host.receive()
            bare_host.send(sender, huge, 0)
            bare_host.send(sender, readout, 1)

        thread = threading.Thread(target=run)
        thread.start()
        with RemoteAgent(bare_host.address) as remote, pytest.raises(RemoteProtocolError, match="cells were announced"):
            remote.decide([1.0, 2.0], spikes=True)
        thread.join()

    def test_a_host_that_forgot_the_client(self, bare_host):
        error = Error(ErrorCode.NOT_WELCOME, "Who are you?")
        thread = self.play(bare_host, lambda sender: bare_host.send(sender, error, 1))
        with RemoteAgent(bare_host.address) as remote:
            with pytest.raises(RefusedError, match="Who are you") as caught:
                remote.decide([1.0, 2.0])
            assert caught.value.code == "NOT_WELCOME"
            with pytest.raises(LocalProtocolError, match="Who are you"):
                remote.decide([1.0, 2.0])
        thread.join()
