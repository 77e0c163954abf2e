#!/bin/sh
# A job that leaves a child of its group behind, which holds its output: nothing of it may survive the run.
sleep "${1:-60}" &
echo "child $!"
