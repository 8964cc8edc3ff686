"""A real RTSP server, GStreamer's, for tests: run by whichever Python has its bindings.

    python3 rtsp_server.py PORT USER:PASSWORD NAME=PIPELINE ...

A user of ":" lets everybody in. PIPELINE ends in a payloader named pay0; what stands in the file FRAMES (a FIFO, from
the environment) is given to an appsrc named frames in it, a frame at a time. Prints the port once it listens; ends with
its standard input.
"""

import os
import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

Gst.init(None)
LATE = 15
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


for mount in mounts:
    path, _, pipeline = mount.partition("=")
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( {pipeline} )")
    factory.set_shared("shared" in path)
    factory.connect("media-configure", feed)
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
