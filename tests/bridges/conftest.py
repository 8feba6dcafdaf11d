"""Hosts in threads, and bare sockets for clients and hosts that do not keep to the rules."""

import importlib.util
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq
from spikeloop.bridges import wire
from spikeloop.bridges.host import Host

FAKE_HOST = Path(__file__).with_name("fake_host.py")


@pytest.fixture(scope="session")
def fake():
    spec = importlib.util.spec_from_file_location("fake_host", FAKE_HOST)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def agent(fake):
    return fake.FakeAgent()


@pytest.fixture
def serving(agent):
    """``with serving(**options) as host``: a host that serves the agent from a thread, on a free port."""

    @contextmanager
    def serve(**options):
        with Host(agent, "tcp://127.0.0.1:*", **options) as host:
            thread = threading.Thread(target=host.serve)
            thread.start()
            try:
                yield host
                assert thread.is_alive() or host._reason, "the host died"
            finally:
                host.stop()
                thread.join()

    return serve


class Bare:
    """A socket on which any bytes can be sent."""

    def __init__(self, kind, timeout_s=5.0, identity=None):
        self.context = zmq.Context()
        self.socket = self.context.socket(kind)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVTIMEO, int(timeout_s * 1000))
        if identity is not None:
            self.socket.setsockopt(zmq.ROUTING_ID, identity)
            self.socket.setsockopt(zmq.RECONNECT_IVL, -1)  # or two of one name would drive each other out for ever

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        self.context.term()


class BareClient(Bare):
    def __init__(self, address, **options):
        super().__init__(zmq.DEALER, **options)
        self.socket.connect(address)

    def send(self, message, number):
        self.socket.send(wire.encode(message, number))

    def receive(self):
        return wire.decode(self.socket.recv())

    def ask(self, frame):
        """The answer to one frame, or to several parts."""
        self.socket.send_multipart(frame if isinstance(frame, list) else [frame])
        return self.receive()


class BareHost(Bare):
    def __init__(self):
        super().__init__(zmq.ROUTER)
        self.socket.bind("tcp://127.0.0.1:*")
        self.address = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def receive(self, pings=False):
        """Who sent a frame, and the frame; Pings are left out unless asked for."""
        while True:
            sender, frame = self.socket.recv_multipart()
            if pings or not isinstance(wire.decode(frame)[1], wire.Ping):
                return sender, frame

    def send(self, sender, message, number):
        self.socket.send_multipart([sender, wire.encode(message, number)])


@pytest.fixture
def bare_client():
    return BareClient


@pytest.fixture
def bare_host():
    with BareHost() as host:
        yield host
