package config

import "fmt"

// fallback checks the STS that is asked while the first one does not answer.
// Both must know the same roles: of one partition of AWS, or of somebody else.
func (k *checker) fallback(u *use) {
	first, second, backup := u.region, u.second, u.backup
	_, aws := awsEndpoint(u.endpoint.value)
	named, alsoAWS := awsEndpoint(backup.value)
	switch {
	case u.way == given || u.way == passed || second.value+backup.value == "" || k.spoilt[backup.at]:
	case alsoAWS && (k.spoilt[second.at] || k.spoilt[first.at]):
	case alsoAWS && !aws && backup.value == "":
		k.fault(second.at, "would lead to AWS, and "+u.endpoint.at+" is not AWS's", "write fallback_endpoint beside it, or take it out")
	case alsoAWS != aws:
		k.fault(backup.at, "and "+u.endpoint.at+" are not both AWS's", "what one of them trusts, the other does not know: take it out")
	case !aws && backup.value == u.endpoint.value:
		k.fault(backup.at, "is the endpoint itself", "write another, or take it out")
	case !aws:
	case second.value == "":
		k.fault(backup.at, "has no region beside it", "write fallback_region: requests are signed for it")
	case !awsRegion.MatchString(second.value):
		k.fault(second.at, fmt.Sprintf("%q is no region of AWS", second.value), "write it like eu-west-1")
	case partition(second.value) != partition(first.value):
		k.fault(second.at, fmt.Sprintf("is in partition %s, and %s in %s", partition(second.value), first.at, partition(first.value)), "write a region of the same partition: no role is in both")
	case named != "" && named != second.value:
		k.fault(backup.at, fmt.Sprintf("is in region %s, and %s is %s", named, second.at, second.value), "correct one of them: AWS takes no request that is signed for another region")
	case second.value == first.value && backup.value == u.endpoint.value:
		k.fault(second.at, "is the region itself", "write another, or take it out")
	}
}
