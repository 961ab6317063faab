"""Who may do what over a websocket."""


def allowed_channels(request, channels):
    """Return those of `channels` that the browser may have, e.g. of ["subscribe-broadcast", "publish-user"].

    Called once for each websocket that is opened. Publishing is the one to be careful with: what one
    browser publishes is seen by others.
    """
    granted = {channel for channel in channels if channel.startswith("subscribe-")}
    if request.path == "/ws/chat":
        granted.add("publish-broadcast")
    if request.user.is_authenticated:
        granted.update(["publish-user", "publish-group"])
    return [channel for channel in channels if channel in granted]
