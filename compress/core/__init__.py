"""What every package builds on: errors, files, records, console and machine facts."""
