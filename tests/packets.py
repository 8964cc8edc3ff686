"""Videos as packets of a codec, for `rtsp_server.py` to play in a loop, or as they come through a FIFO."""

import struct
from fractions import Fraction

import av

SECOND = 1_000_000_000
HEAD = struct.Struct("<qqq")
APPSRC = "appsrc name=packets is-live=true format=time block=true max-bytes=200000"
PAY = {
    "h264": f"{APPSRC} caps=video/x-h264,stream-format=byte-stream,alignment=au ! h264parse ! "
    "rtph264pay config-interval=-1 name=pay0",
    "hevc": f"{APPSRC} caps=video/x-h265,stream-format=byte-stream,alignment=au ! h265parse ! "
    "rtph265pay config-interval=-1 name=pay0",
    "mjpeg": f"{APPSRC} caps=image/jpeg ! jpegparse ! rtpjpegpay name=pay0",
    "av1": f"{APPSRC} caps=application/x-rtp,media=video,encoding-name=AV1,clock-rate=90000,payload=96 ! "
    "identity name=pay0",  # of `av1_in_rtp`: GStreamer has no payloader
}


def copied(clip):
    """The packets of a clip in H.264, each with its times as fractions of a second."""
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        to_stream = av.BitStreamFilterContext("h264_mp4toannexb", stream)
        for packet in container.demux(stream):
            for each in to_stream.filter(packet if packet.size else None):
                yield bytes(each), each.pts * each.time_base, (each.dts or 0) * each.time_base


def frames(clip):
    """The frames of a clip, and their times in seconds."""
    with av.open(str(clip)) as container:
        for frame in container.decode(video=0):
            yield frame, frame.time


def encoded(pictures, codec):
    """Frames and times as packets of a codec, without pictures that need later ones."""
    context = av.CodecContext.create({"h264": "libx264", "hevc": "libx265", "mjpeg": "mjpeg"}[codec], "w")
    context.time_base, context.pix_fmt = Fraction(1, 1000), "yuvj420p" if codec == "mjpeg" else "yuv420p"
    if codec != "mjpeg":
        context.options = {"preset": "ultrafast", "tune": "zerolatency", "g": "15", "x265-params": "log-level=none"}
    packets = []
    for frame, time in pictures:
        if not packets:
            context.width, context.height = frame.width, frame.height
        picture = frame.reformat(format=context.pix_fmt)
        picture.pts, picture.time_base = round(time * 1000), context.time_base
        picture.pict_type = av.video.frame.PictureType.NONE
        packets += context.encode(picture)
    for packet in packets + context.encode(None):
        yield bytes(packet), packet.pts * context.time_base, packet.pts * context.time_base


def av1_in_rtp(pictures):
    """RTP packets of a frame each, which as large as these go over TCP only; no picture needs later ones."""
    context = av.CodecContext.create("libsvtav1", "w")
    context.time_base, context.pix_fmt = Fraction(1, 30), "yuv420p"
    context.options = {"preset": "12", "svtav1-params": "pred-struct=1:lookahead=0:keyint=15"}
    for number, image in enumerate(pictures):
        if not number:
            context.height, context.width = image.shape[:2]
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts, frame.time_base = number, context.time_base
        (packet,) = context.encode(frame)
        head = struct.pack(">BBHII", 0x80, 0x80 | 96, number, number * 3000, 7)
        units = b"".join(_length(len(unit)) + unit for unit in _units(bytes(packet)) if unit[0] >> 3 & 15 != 2)
        yield head + bytes([8 * packet.is_keyframe]) + units


def _units(data):
    """AV1's open bitstream units, each of which says its length behind its first byte; 2 is a temporal delimiter."""
    while data:
        size, shift, end = 0, 0, 1
        while True:
            size |= (data[end] & 127) << shift
            shift, end = shift + 7, end + 1
            if data[end - 1] < 128:
                break
        yield data[: end + size]
        data = data[end + size :]


def _length(number):
    """LEB128."""
    return (bytes([number & 127 | 128]) + _length(number >> 7)) if number > 127 else bytes([number])


def write_packets(path, packets):
    """For `rtsp_server.loop_packets`: from time 0, and how long it all takes."""
    rows = list(packets)
    begin, last = min(row[2] for row in rows), max(row[1] for row in rows)
    with path.open("wb") as file:
        for data, shown, decoded in rows:
            file.write(HEAD.pack(len(data), round((shown - begin) * SECOND), round((decoded - begin) * SECOND)) + data)
        file.write(HEAD.pack(0, round((last - begin + Fraction(1, 10)) * SECOND), 0))
