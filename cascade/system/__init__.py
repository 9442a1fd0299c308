"""The process and the machine: signals, streams, forks, cores, caches."""
