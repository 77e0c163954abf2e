package process

// Limits hold for all the runs of a job together. Zero is none.
type Limits struct {
	Memory int64   // bytes
	CPU    float64 // processors: 0.5 is half of one
	PIDs   int     // processes and threads
}
