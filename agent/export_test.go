package agent

// Supervise is supervise.
var Supervise = supervise

// A Task is a task.
type Task = task

// NewTask makes one.
var NewTask = func(name string, run taskFunc) task { return task{name, run} }
