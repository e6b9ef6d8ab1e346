"""Other libraries' networks and data in, fairjax's out. No room of the library imports an adapter."""
