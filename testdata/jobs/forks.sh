#!/bin/sh
# A job that leaves a child of its process group behind, which holds its output: it must not survive the run.
sleep "${1:-60}" &
echo "child $!"
