"""A network as one file for other runtimes: written, compared with the network it came from, and run again."""
