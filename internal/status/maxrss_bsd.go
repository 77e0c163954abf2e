//go:build !linux && !darwin

package status

const maxrssUnit = 1 << 10
