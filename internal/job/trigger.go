package job

// Trigger is why a run was started, in one word that programs read: in history and API. Its values are
// stable.
type Trigger string

// The triggers.
const (
	TriggerSchedule Trigger = "schedule" // its tick was due, or a service is restarted
	TriggerAtStart  Trigger = "at_start" // gophd has started
	TriggerManual   Trigger = "manual"   // a request
	TriggerRetry    Trigger = "retry"    // the run before it failed
	TriggerCatchUp  Trigger = "catch_up" // its tick was due while no gophd could run it
)
