"""The command line. It may use anything public, and needs the extra `pellucid[cli]`."""
