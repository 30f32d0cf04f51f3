"""What a network is judged on: calibration data, and losses for each sample. Imports graph/ and errors."""
