package process

// Limits hold for a run and all its descendants together. Zero is none.
type Limits struct {
	Memory int64 // bytes
	CPU    int   // percent of one processor
	Tasks  int   // processes and threads
}
