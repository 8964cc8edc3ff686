"""Videos as packets of a codec, for `rtsp_server.py` to play in a loop."""

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


def write_packets(path, packets):
    """For `rtsp_server.loop_packets`: from time 0, and how long it all takes."""
    rows = list(packets)
    begin, last = min(row[2] for row in rows), max(row[1] for row in rows)
    with path.open("wb") as file:
        for data, shown, decoded in rows:
            file.write(HEAD.pack(len(data), round((shown - begin) * SECOND), round((decoded - begin) * SECOND)) + data)
        file.write(HEAD.pack(0, round((last - begin + Fraction(1, 10)) * SECOND), 0))
