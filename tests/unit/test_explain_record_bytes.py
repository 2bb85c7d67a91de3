"""RecordTraced carries each record as it stands on the wire: what both ends saw is what went between them."""

from __future__ import annotations

from pellucid import NEED_DATA, ClientConfig, Connection, Credential, ServerConfig
from pellucid.testing.ca import CA
from pellucid.trace import Direction, RecordTraced, TraceEvent


def test_records_traced_are_the_bytes_on_the_wire() -> None:
    ca = CA()
    issued = ca.issue("localhost")
    credential = Credential.from_pem(issued.chain_pem, issued.key_pem)
    seen: dict[str, list[TraceEvent]] = {"client": [], "server": []}
    client = Connection.client(
        ClientConfig(trust=ca.trust, trace_records=True), "localhost", trace=seen["client"].append
    )
    server = Connection.server(ServerConfig(credentials=(credential,), trace_records=True), trace=seen["server"].append)
    wire = {"client": b"", "server": b""}
    for turn in range(6):
        if turn == 3:
            client.send_data(b"hello")
        for name, sender, receiver in (("client", client, server), ("server", server, client)):
            data = sender.data_to_send()
            wire[name] += data
            if data:
                receiver.receive_data(data)
            while receiver.next_event() is not NEED_DATA:
                pass
    for name, events in seen.items():
        records = [event for event in events if isinstance(event, RecordTraced)]
        for direction, sender in (
            (Direction.SENT, name),
            (Direction.RECEIVED, "server" if name == "client" else "client"),
        ):
            parts = [record.raw for record in records if record.direction is direction]
            without_dummies = b"".join(parts).replace(b"\x14\x03\x03\x00\x01\x01", b"")
            assert without_dummies == wire[sender].replace(b"\x14\x03\x03\x00\x01\x01", b"")
            assert all(record.size == len(record.raw) for record in records)
