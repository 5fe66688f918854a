package metadata

import (
	"encoding/json"
	"strings"
	"time"
)

// Notices are what an operator, or a program of theirs, announces to the
// workloads of a host: programs that drain a host look for them. The zero
// Notices are none.
type Notices struct {
	Scheduled []Event // of events/maintenance/scheduled; nil is no such path, and empty an empty list
	History   []Event // of events/maintenance/history; as above
	Rebalance time.Time
	Spot      Interruption
	// LifecycleState is what the host is about to be, such as Terminated, of
	// autoscaling/target-lifecycle-state.
	LifecycleState string
}

// An Event is one of maintenance. Times are shown in whole seconds.
type Event struct {
	NotBefore, NotAfter time.Time // NotAfter may be zero
	Code                string    // instance-reboot, system-reboot, system-maintenance, instance-retirement or instance-stop
	Description, ID     string
	State               string // active, completed or canceled
}

// An Interruption is the end of a host that was lent. The zero Interruption is
// none.
type Interruption struct {
	Action string // hibernate, stop or terminate
	Time   time.Time
}

const (
	eventTime  = "2 Jan 2006 15:04:05 GMT"
	noticeTime = "2006-01-02T15:04:05Z"
)

// Leaves are the paths of the notices below meta-data/, and their values in
// EC2's form. What is not announced has no path.
func (n Notices) Leaves() map[string]string {
	leaves := map[string]string{}
	if n.Scheduled != nil {
		leaves["events/maintenance/scheduled"] = list(n.Scheduled)
	}
	if n.History != nil {
		leaves["events/maintenance/history"] = list(n.History)
	}
	if !n.Rebalance.IsZero() {
		leaves["events/recommendations/rebalance"] = `{"noticeTime": "` + n.Rebalance.UTC().Format(noticeTime) + `"}`
	}
	if n.Spot.Action != "" {
		at := n.Spot.Time.UTC().Format(noticeTime)
		leaves["spot/instance-action"] = `{"action": ` + quote(n.Spot.Action) + `, "time": "` + at + `"}`
		if n.Spot.Action == "terminate" {
			leaves["spot/termination-time"] = at
		}
	}
	if n.LifecycleState != "" {
		leaves["autoscaling/target-lifecycle-state"] = n.LifecycleState
	}
	return leaves
}

// list renders events as EC2 lays them out. Its times are not those of the
// rest of the tree.
func list(events []Event) string {
	if len(events) == 0 {
		return "[]"
	}
	var b strings.Builder
	open := "[ {\n"
	for _, e := range events {
		b.WriteString(open)
		sep := ""
		field := func(name, value string) {
			if value != "" {
				b.WriteString(sep + `  "` + name + `" : ` + quote(value))
				sep = ",\n"
			}
		}
		field("NotBefore", e.NotBefore.UTC().Format(eventTime))
		field("Code", e.Code)
		field("Description", e.Description)
		field("EventId", e.ID)
		if !e.NotAfter.IsZero() {
			field("NotAfter", e.NotAfter.UTC().Format(eventTime))
		}
		field("State", e.State)
		b.WriteString("\n}")
		open = ", {\n"
	}
	b.WriteString(" ]")
	return b.String()
}

func quote(text string) string {
	quoted, _ := json.Marshal(text) // a string cannot fail
	return string(quoted)
}
