#!/bin/sh
# A job that does what it should: one line that tells run and time, then success.
echo "run ${GOPHD_RUN:-?} at $(date '+%Y-%m-%d %H:%M:%S')"
