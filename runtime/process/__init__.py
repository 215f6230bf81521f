"""What belongs to the whole process: streams, signals, threads, forks, its cache folder, and what it may send."""
