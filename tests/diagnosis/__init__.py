"""Every fault that a server can have, met through our command and libraries, and through others beside them."""
