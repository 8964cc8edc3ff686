"""A real RTSP server, GStreamer's, for tests: run by whichever Python has its bindings.

    python3 rtsp_server.py PORT USER:PASSWORD NAME=PIPELINE ...

A user of ":" lets everybody in. PIPELINE ends in a payloader named pay0; what stands in the file FRAMES (a FIFO, from
the environment) is given to an appsrc named frames in it, a frame at a time; to one named packets, again and again, the
packets of the file NAME in the folder PACKETS, each after its size and times in nanoseconds (`HEAD`). Prints the port
once it listens; ends with its standard input.
"""

import os
import struct
import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

Gst.init(None)
LATE = 15
HEAD = struct.Struct("<qqq")  # size, time of presentation, time of decoding; a last one without bytes is the end
port, user, *mounts = sys.argv[1:]
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(port)
name, _, password = user.partition(":")
if name:
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(name, password), token)
    server.set_auth(auth)


def feed(_factory, media):
    """Push frames into the appsrc, if there is one."""
    source = media.get_element().get_by_name_recurse_up("frames")
    if source is None:
        return
    size = source.get_property("blocksize")

    def push():
        with open(os.environ["FRAMES"], "rb") as file:
            for index in range(sys.maxsize):
                frame = file.read(size)
                if not frame:
                    return
                if not 1 <= index <= LATE:  # stamped as if they were late already, frames leave without waiting
                    buffer = Gst.Buffer.new_wrapped(frame)
                    buffer.pts = max(index - LATE, 0) * Gst.SECOND // 30
                    source.emit("push-buffer", buffer)

    threading.Thread(target=push, daemon=True).start()


def loop_packets(_factory, media, path):
    """Push the packets into the appsrc, if there is one, until nobody wants them any more."""
    source = media.get_element().get_by_name_recurse_up("packets")
    if source is None:
        return

    def push():
        begin, state = 0, Gst.FlowReturn.OK
        while state == Gst.FlowReturn.OK:
            with open(os.path.join(os.environ["PACKETS"], path), "rb") as file:
                while state == Gst.FlowReturn.OK:
                    size, shown, decoded = HEAD.unpack(file.read(HEAD.size))
                    if not size:
                        begin += shown
                        break
                    buffer = Gst.Buffer.new_wrapped(file.read(size))
                    buffer.pts, buffer.dts = begin + shown, begin + decoded
                    state = source.emit("push-buffer", buffer)  # waits while the queue is full

    threading.Thread(target=push, daemon=True).start()


for mount in mounts:
    path, _, pipeline = mount.partition("=")
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( {pipeline} )")
    factory.set_shared("shared" in path)
    factory.connect("media-configure", feed)
    factory.connect("media-configure", loop_packets, path)
    if name:
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role("viewer", "media.factory.access", True)
        permissions.add_permission_for_role("viewer", "media.factory.construct", True)
        factory.set_permissions(permissions)
    server.get_mount_points().add_factory(f"/{path}", factory)
server.attach(None)
loop = GLib.MainLoop()
threading.Thread(target=lambda: (sys.stdin.read(), loop.quit()), daemon=True).start()
print(server.get_bound_port(), flush=True)
loop.run()
