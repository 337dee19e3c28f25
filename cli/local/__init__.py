"""Run the whole system on one machine: embedded servers, free ports, one process law."""
