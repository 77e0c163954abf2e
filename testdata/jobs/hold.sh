#!/bin/sh
# A job that exits when the file $1 exists; for tests that decide when a run ends.
echo "run ${GOPHD_RUN:-?} begins"
until [ -e "$1" ]; do
	sleep 0.1
done
echo "run ${GOPHD_RUN:-?} ends"
