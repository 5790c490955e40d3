"""When the frames of a video are shown."""

from fractions import Fraction
from heapq import heappop, heappush

import av

REORDERED = 2  # frames; times that fall back by more come from another recording, joined to the first


class Clock:
    """Times of frames after the first one, in seconds, in the order in which they are shown: they never fall."""

    def __init__(self, stream: av.VideoStream, sort: bool) -> None:
        self.rate = float(stream.average_rate) if stream.average_rate else 0.0
        self.step = 1 / self.rate if self.rate else 0.0
        self.base = stream.time_base or Fraction(1)
        # AVI, and other files by careless programs, give times in the order of decoding alone: once sorted, they are
        # those of the frames. None: not known yet.
        self.sort: bool | None = sort or (None if stream.codec_context.has_b_frames else False)
        self.pending: list[int] = []
        self.sent: int | None = None
        self.decoded_only = self.shown_later = False  # there are packets whose two times are the same, or differ
        self.start: float | None = None
        self.last = 0.0

    def send(self, packet: av.Packet) -> None:
        self.sent = packet.dts
        if packet.pts is not None:
            self.decoded_only |= packet.pts == packet.dts
            self.shown_later |= packet.pts != packet.dts
        if self.sort is not False and packet.dts is not None and not packet.is_discard:
            heappush(self.pending, packet.dts)

    def settle(self) -> None:
        """Before the first frame: do its packets say when they are shown, or only when they are decoded?"""
        if self.sort is None:
            self.sort = self.decoded_only and not self.shown_later
            if not self.sort:
                self.pending.clear()

    def drop(self) -> None:
        """The packet sent last gives no frame."""
        if self.sort and self.sent in self.pending:
            self.pending.remove(self.sent)
            self.pending.sort()

    def time(self, frame: av.VideoFrame, index: int) -> float:
        """The time of `frame`, the `index`-th that comes out of the decoder."""
        stamp: float | None = frame.time
        if self.pending:
            stamp = float(heappop(self.pending)) * self.base.numerator / self.base.denominator
        if stamp is None:
            time = self.last + self.step if self.start is not None else index / self.rate if self.rate else 0.0
        else:
            if self.start is None:
                self.start = stamp - (index / self.rate if index and self.rate else 0.0)
            time = stamp - self.start
            if time < self.last - REORDERED * self.step:
                self.start = stamp - self.last - self.step
                time = self.last + self.step
        self.last = max(self.last, time)
        return self.last
