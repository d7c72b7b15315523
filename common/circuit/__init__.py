"""An OpenDSS model as a feeder. With ``common.replay`` the only room that knows OpenDSS."""
