package process

// Limits apply to a run and all its descendants together. Zero is no limit.
type Limits struct {
	Memory int64 // bytes
	CPU    int   // percent of one processor
	Tasks  int   // processes and threads
}
