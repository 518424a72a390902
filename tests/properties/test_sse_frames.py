"""Any split of any event stream gives the same bytes, in bounded memory."""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from meter.gateway.answer.sse import FrameCutter, PieceKind, frame_data

ALPHABET = st.sampled_from(
    [b"\n", b"\r", b"\r\n", b"data:", b"data: ", b"x", b"\xc3\xa9", b"\xff", b":", b"[DONE]", b" "]
)
STREAMS = st.lists(ALPHABET, max_size=40).map(b"".join)
CUTS = st.lists(st.integers(min_value=0, max_value=200), max_size=12)


def split(stream: bytes, cuts: list[int]) -> list[bytes]:
    """The stream in chunks, cut at the given places; none is empty."""
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    return [stream[a:b] for a, b in pairwise(places)]


def frames(chunks: list[bytes]) -> list[bytes]:
    """The frames' data, and the unfinished frame at the end."""
    cutter = FrameCutter()
    pieces = [piece for chunk in chunks for piece in cutter.feed(chunk)]
    whole = [frame_data(piece.data) for piece in pieces if piece.kind is PieceKind.FRAME]
    return [*whole, frame_data(cutter.rest())]


@given(STREAMS, CUTS, st.integers(min_value=8, max_value=60))
@example(b"x\r\n\r\ny\r\r\nz", [4, 5, 8, 9], 8)
def test_the_pieces_are_the_stream_whatever_the_split(
    stream: bytes, cuts: list[int], limit: int
) -> None:
    """Nothing is added, lost or reordered, frames over the limit included."""
    cutter = FrameCutter(max_frame_bytes=limit)
    pieces = [piece for chunk in split(stream, cuts) for piece in cutter.feed(chunk)]

    assert b"".join(piece.data for piece in pieces) + cutter.rest() == stream


@given(STREAMS, CUTS)
@example(b"a\r\n\r\nb\n\n", [4])
@example(b"a\r\r\nb\n\n", [2, 3])
def test_the_frames_do_not_depend_on_the_split(stream: bytes, cuts: list[int]) -> None:
    """Chunk boundaries can fall anywhere, between CR and LF too."""
    assert frames(split(stream, cuts)) == frames([stream])


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=60))
def test_a_line_without_end_is_let_through_in_bounded_memory(chunks: list[bytes]) -> None:
    """Bytes fed but not yet returned stay under the limit, so memory is bounded."""
    cutter = FrameCutter(max_frame_bytes=16)
    fed = given_out = most_kept = 0
    for chunk in chunks:
        fed += len(chunk)
        given_out += sum(len(piece.data) for piece in cutter.feed(chunk))
        most_kept = max(most_kept, fed - given_out)

    assert most_kept <= 16


@given(st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r", b"\r\n\n", b"\n\r\n", b"\n\r"]), CUTS)
def test_every_kind_of_blank_line_ends_a_frame(end: bytes, cuts: list[int]) -> None:
    """Line ends are LF, CR LF and CR, also mixed (WHATWG HTML 9.2.6)."""
    stream = b"data: one" + end + b"data: two" + end

    assert frames(split(stream, cuts)) == [b"one", b"two", b""]


def test_a_frame_after_an_oversize_one_is_a_frame_again() -> None:
    """Only the frame that is too long is not parsed."""
    cutter = FrameCutter(max_frame_bytes=16)
    chunks = [b"data: " + b"x" * 30, b"x\n\n", b"data: usage\n\n"]

    kinds = [piece.kind for chunk in chunks for piece in cutter.feed(chunk)]

    assert kinds == [PieceKind.OVERSIZE, PieceKind.OVERSIZE_END, PieceKind.FRAME]


def test_several_data_lines_are_joined_and_other_lines_ignored() -> None:
    """An event's data is its data lines joined with LF; one space after the colon is dropped."""
    frame = b": comment\r\nevent: x\r\ndata: one\r\ndata:two\r\nid: 3\r\n\r\n"

    assert frame_data(frame) == b"one\ntwo"


def test_a_frame_without_data_has_none() -> None:
    """A comment, such as a keep-alive, carries no data."""
    assert frame_data(b": keep-alive\n\n") == b""
