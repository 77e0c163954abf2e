package status

const maxrssUnit = 1
