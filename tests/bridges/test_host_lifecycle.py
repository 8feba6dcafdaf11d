"""Where a host listens, how it is set, and how it ends."""

import signal
import subprocess
import sys
import threading
import time

import pytest
from spikeloop.bridges.client import RemoteAgent
from spikeloop.bridges.host import Host
from spikeloop.bridges.wire import ErrorCode, Hello, Ping, Pong, encode
from spikeloop.errors import AddressError, HostLostError, InvalidInputError, LocalProtocolError
from spikeloop.tests.bridges.exchanges import code_of


class TestAddresses:
    def test_a_port_in_use(self, agent):
        with (
            Host(agent, "tcp://127.0.0.1:*") as host,
            pytest.raises(AddressError, match=r"cannot be bound: something else listens there"),
        ):
            Host(agent, host.address)

    @pytest.mark.parametrize("address", ["tcp://192.0.2.1:5560", "tcp://no-such-host.invalid:5560"])
    def test_not_of_this_machine(self, agent, address):
        with pytest.raises(AddressError, match="no such address"):
            Host(agent, address)

    @pytest.mark.parametrize(
        "address",
        ["", "5560", "127.0.0.1:5560", "tcp://127.0.0.1", "tcp://:5560", "http://127.0.0.1:80", "ipc:///tmp/x",
         "tcp://127.0.0.1:65536", "tcp://127.0.0.1:-1", "tcp://127.0.0.1:5560/x", "tcp://a b:1", "tcp://::1:80"],
    )  # fmt: skip
    def test_malformed(self, agent, address):
        with pytest.raises(AddressError):
            Host(agent, address)
        with pytest.raises(AddressError):
            RemoteAgent(address)

    @pytest.mark.parametrize("address", ["tcp://*:5560", "tcp://127.0.0.1:*", "tcp://127.0.0.1:0"])
    def test_nothing_to_connect_to(self, address):
        with pytest.raises(AddressError, match="names no single host and port"):
            RemoteAgent(address)

    def test_a_name_that_nobody_knows(self):
        with pytest.raises(AddressError, match=r"'no-such-host\.invalid' is not known"):
            RemoteAgent("tcp://no-such-host.invalid:5560")

    @pytest.mark.parametrize("bind", ["tcp://localhost:0", "tcp://127.0.0.1:*", "tcp://*:*", "tcp://[::1]:*"])
    def test_the_actual_address_can_be_connected(self, agent, bind):
        with Host(agent, bind) as host:
            thread = threading.Thread(target=host.serve)
            thread.start()
            with RemoteAgent(host.address) as remote:
                assert remote.decide([1.0, 0.0]).output[0] == 1.0
            host.stop()
            thread.join()

    def test_nobody_there(self, agent):
        with Host(agent, "tcp://127.0.0.1:*") as host:
            address = host.address
        start = time.monotonic()
        with pytest.raises(HostLostError, match=rf"The host at {address} has not answered for 0\.2 s"):
            RemoteAgent(address, timeout_s=0.1, retries=1)
        assert time.monotonic() - start < 1.0


class TestStopping:
    def test_clients_are_told_why(self, serving):
        with serving() as host, RemoteAgent(host.address) as remote:
            host.stop("maintenance")
            time.sleep(0.1)  # a request that comes before the host looks up would still be answered
            with pytest.raises(HostLostError, match="said goodbye: maintenance"):
                remote.decide([1.0, 0.0])

    def test_who_is_at_the_door_is_told_too(self, serving, agent, bare_client):
        agent.delay_s = 0.3
        with serving() as host, RemoteAgent(host.address) as remote, bare_client(host.address) as late:
            assert late.ask(encode(Ping(), 0)) == (0, Pong())
            remote.submit([1.0, 0.0])
            time.sleep(0.1)
            late.send(Hello("late"), 0)
            time.sleep(0.05)
            host.stop("maintenance")
            assert code_of(late.receive()) == (0, ErrorCode.SHUTTING_DOWN)

    def test_an_event_stops_it(self, agent):
        stop = threading.Event()
        with Host(agent, "tcp://127.0.0.1:*") as host:
            thread = threading.Thread(target=host.serve, args=(stop,))
            thread.start()
            with RemoteAgent(host.address) as remote:
                stop.set()
                thread.join(2)
                assert not thread.is_alive()
                with pytest.raises(HostLostError, match="goodbye: the host was stopped"):
                    remote.decide([1.0, 0.0])

    def test_a_stop_before_serving_counts(self, agent):
        with Host(agent, "tcp://127.0.0.1:*") as host:
            host.stop()
            host.serve()  # would never return otherwise

    def test_close_waits_for_a_serving_thread(self, agent):
        host = Host(agent, "tcp://127.0.0.1:*")
        thread = threading.Thread(target=host.serve)
        thread.start()
        with RemoteAgent(host.address) as remote:
            remote.reset()
            with pytest.raises(LocalProtocolError, match="serving already"):
                host.serve()
            host.close()
            thread.join(2)
            assert not thread.is_alive()
        host.close()
        with pytest.raises(LocalProtocolError, match="closed"):
            host.serve()


class TestProcesses:
    @pytest.fixture
    def process(self, fake):
        with subprocess.Popen([sys.executable, fake.__file__], stdout=subprocess.PIPE, text=True) as process:
            yield process, process.stdout.readline().strip()
            process.kill()

    def test_a_killed_host_is_noticed_in_time(self, process):
        host, address = process
        with RemoteAgent(address, timeout_s=0.2, retries=1) as remote:
            remote.reset(episode=1)
            assert remote.decide([1.0, 0.0]).output[0] == 1.0
            host.kill()
            host.wait()
            start = time.monotonic()
            with pytest.raises(HostLostError, match=r"has not answered for 0\.\d s"):
                remote.decide([1.0, 0.0])
            assert time.monotonic() - start < 1.0

    @pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
    def test_a_signal_ends_it_with_a_goodbye(self, process, name):
        host, address = process
        with RemoteAgent(address) as remote:
            host.send_signal(getattr(signal, name))
            assert host.wait(3) == 0
            assert host.stdout.read() == "closed\n"
            with pytest.raises(HostLostError, match=f"goodbye: the host was stopped by {name}"):
                remote.decide([1.0, 0.0])

    def test_handlers_are_put_back(self, agent):
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        with Host(agent, "tcp://127.0.0.1:*") as host:
            host.stop()
            host.serve_until_signalled()
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.parametrize(
    "wrong",
    [{"max_clients": 0}, {"idle_timeout_s": 0.0}, {"pace_scale": 0.0}, {"pace_scale": float("nan")}],
)
def test_settings_of_a_host_have_their_range(agent, wrong):
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        Host(agent, "tcp://127.0.0.1:*", **wrong)


@pytest.mark.parametrize("wrong", [{"timeout_s": 0.0}, {"heartbeat_s": -1.0}, {"retries": -1}])
def test_settings_of_a_client_have_their_range(wrong):
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        RemoteAgent("tcp://127.0.0.1:5560", **wrong)
