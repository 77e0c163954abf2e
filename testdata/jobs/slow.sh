#!/bin/sh
# A job that takes its time: $1 seconds, 2 if not given; for overruns, time limits and stops.
echo "run ${GOPHD_RUN:-?} begins"
sleep "${1:-2}"
echo "run ${GOPHD_RUN:-?} ends"
