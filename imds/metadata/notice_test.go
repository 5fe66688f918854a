package metadata_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostrole/hostrole/imds/metadata"
)

var noon = time.Date(2019, 1, 5, 13, 0, 43, 999, time.FixedZone("CET", 3600))

func TestNotices(t *testing.T) {
	t.Parallel()
	reboot := metadata.Event{NotBefore: noon, NotAfter: noon.Add(time.Hour), Code: "system-reboot", Description: `a "planned" reboot`, ID: "instance-event-0d59937288b749b32", State: "active"}
	for name, c := range map[string]struct {
		notices metadata.Notices
		want    map[string]string
	}{
		"none":             {metadata.Notices{}, map[string]string{}},
		"no events as yet": {metadata.Notices{Scheduled: []metadata.Event{}, History: []metadata.Event{}}, map[string]string{"events/maintenance/scheduled": "[]", "events/maintenance/history": "[]"}},
		"a recommendation": {metadata.Notices{Rebalance: noon}, map[string]string{"events/recommendations/rebalance": `{"noticeTime": "2019-01-05T12:00:43Z"}`}},
		"a stop":           {metadata.Notices{Spot: metadata.Interruption{Action: "stop", Time: noon}}, map[string]string{"spot/instance-action": `{"action": "stop", "time": "2019-01-05T12:00:43Z"}`}},
		"a life cycle":     {metadata.Notices{LifecycleState: "Terminated"}, map[string]string{"autoscaling/target-lifecycle-state": "Terminated"}},
		"a termination":    {metadata.Notices{Spot: metadata.Interruption{Action: "terminate", Time: noon}}, map[string]string{"spot/instance-action": `{"action": "terminate", "time": "2019-01-05T12:00:43Z"}`, "spot/termination-time": "2019-01-05T12:00:43Z"}},
		"an event": {metadata.Notices{Scheduled: []metadata.Event{reboot}}, map[string]string{"events/maintenance/scheduled": `[ {
  "NotBefore" : "5 Jan 2019 12:00:43 GMT",
  "Code" : "system-reboot",
  "Description" : "a \"planned\" reboot",
  "EventId" : "instance-event-0d59937288b749b32",
  "NotAfter" : "5 Jan 2019 13:00:43 GMT",
  "State" : "active"
} ]`}},
		"events of the past": {metadata.Notices{History: []metadata.Event{{NotBefore: noon, Code: "instance-stop", State: "canceled"}, {NotBefore: noon, Code: "instance-retirement", State: "completed"}}}, map[string]string{"events/maintenance/history": `[ {
  "NotBefore" : "5 Jan 2019 12:00:43 GMT",
  "Code" : "instance-stop",
  "State" : "canceled"
}, {
  "NotBefore" : "5 Jan 2019 12:00:43 GMT",
  "Code" : "instance-retirement",
  "State" : "completed"
} ]`}},
	} {
		got := c.notices.Leaves()
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: the leaves differ (-want +got):\n%s", name, diff)
		}
		for path, value := range got {
			if value[0] != '{' && value[0] != '[' {
				continue
			}
			if !json.Valid([]byte(value)) {
				t.Errorf("%s: %s is no JSON: %s", name, path, value)
			}
		}
		if _, err := metadata.New(got); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
