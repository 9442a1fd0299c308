"""`GetServerInfo` filled up, as a client that measures its link asks for it."""

from cascade.bundle.bundle import Bundle
from runtime_client.remote.transport import Security, Transport
from tests.support.serving import running
from wire.server_info import InfoCall, decode_info, encode_info_request
from wire.service import GET_SERVER_INFO

PADDING = 4096


def test_the_answer_has_as_much_padding_as_was_asked_for(bundle: Bundle) -> None:
    """Padding goes up and is ignored; random bytes come down, which no tunnel compresses."""
    call = InfoCall(padding=bytes(PADDING), reply_padding_bytes=PADDING)
    with running(bundle) as server:
        transport = Transport(server.address, Security())
        try:
            plain = transport.unary(GET_SERVER_INFO, encode_info_request(), timeout_s=60)
            padded = transport.unary(GET_SERVER_INFO, encode_info_request(call), timeout_s=60)
        finally:
            transport.close()
    info = decode_info(padded)
    assert (len(decode_info(plain).padding), len(info.padding)) == (0, PADDING)
    assert len(set(info.padding)) > 100
    assert [c.name for c in info.components] == [c.name for c in decode_info(plain).components]
