#!/bin/sh
# A job that ignores TERM and floods its output until it is killed.
trap '' TERM
echo ready
while :; do
	echo "still here, and nothing but KILL will change that"
done
