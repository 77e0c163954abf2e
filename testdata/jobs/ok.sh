#!/bin/sh
# A job that succeeds: one line with the run's number and the time.
echo "run ${GOPHD_RUN:-?} at $(date '+%Y-%m-%d %H:%M:%S')"
