#!/bin/sh
# A job that writes to both streams in turn and exits without a final newline.
i=1
while [ "$i" -le "${1:-10}" ]; do
	echo "out $i"
	echo "err $i" >&2
	i=$((i + 1))
done
printf 'the last word of out'
printf 'the last word of err' >&2
