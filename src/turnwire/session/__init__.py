"""WHAT MAY BE SAID NOW: lanes, the connection's cache, the order of events. No I/O here."""
