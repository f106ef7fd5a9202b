// Calls every operation with the Go client of openapi-generator; prints their ids.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"

	"ranker"
)

var called []string

func check(isSo bool, what string) {
	if !isSo {
		fmt.Fprintln(os.Stderr, "not so:", what)
		os.Exit(1)
	}
}

// answered notes an operation that has an answer, and ends the program for one that has none.
func answered(operation string, answer *http.Response, err error) {
	called = append(called, operation)
	check(err == nil && answer.StatusCode < 300, fmt.Sprint(operation, ": ", err))
}

// read makes a request from JSON, as in the documentation.
func read(text string, into any) {
	err := json.Unmarshal([]byte(text), into)
	check(err == nil, fmt.Sprint(text, ": ", err))
}

func main() {
	configuration := ranker.NewConfiguration()
	configuration.Servers = ranker.ServerConfigurations{{URL: os.Args[1]}}
	client, now := ranker.NewAPIClient(configuration), context.Background()

	var behaviours ranker.BehavioursRequest
	read(`{"behaviours": [{"user_id": "44", "item_id": "100", "ts": 1700000000000}]}`, &behaviours)
	stored, answer, err := client.BehavioursAPI.AppendBehaviours(now).BehavioursRequest(behaviours).Execute()
	answered("append_behaviours", answer, err)
	check(stored.Stored == 1, "one behaviour is stored")

	wanted := ranker.NewRankRequest("44", []string{"50", "181", "no-such-film"})
	ranked, answer, err := client.RankingAPI.Rank(now).RankRequest(*wanted).XDeadlineMs(20000).Execute()
	answered("rank", answer, err)
	check(ranked.Items[2].ItemId == "no-such-film", "an unknown item is last")
	check(strings.HasPrefix(answer.Header.Get("X-AB-Bucket"), "rank="), "the answer has its bucket")

	batch := ranker.NewRankBatchRequest([]ranker.RankRequest{*wanted}, false)
	many, answer, err := client.RankingAPI.RankBatch(now).RankBatchRequest(*batch).Execute()
	answered("rank_batch", answer, err)
	check(len(many.Results) == 1, "a batch has a result for each ranking")

	history, answer, err := client.BehavioursAPI.GetBehaviours(now, "44").Execute()
	answered("get_behaviours", answer, err)
	check(history.Behaviours[0].Ts == 1700000000000, "the history has the time")

	var items ranker.ItemsRequest
	read(`{"items": [{"item_id": "a9002", "features": {"category": "sport"}}]}`, &items)
	kept, answer, err := client.ItemsAPI.StoreItems(now).ItemsRequest(items).Execute()
	answered("store_items", answer, err)
	check(kept.Stored == 1, "one item is stored")

	// Debian's validator.v2 is too old to read such an event from JSON.
	event := ranker.NewActivityEvent("44", "foreground")
	event.SetEventId("7f-3")
	feedback := ranker.NewFeedbackRequest([]ranker.Feedback1Inner{ranker.ActivityEventAsFeedback1Inner(event)})
	taken, answer, err := client.BehavioursAPI.SendFeedback(now).FeedbackRequest(*feedback).Execute()
	answered("send_feedback", answer, err)
	check(taken.Accepted == 1, "one event is accepted")

	info, answer, err := client.OperationsAPI.GetInfo(now).Execute()
	answered("get_info", answer, err)
	check(info.Service == "ranker", "the service has its name")
	_, answer, err = client.OperationsAPI.GetLiveness(now).Execute()
	answered("get_liveness", answer, err)
	_, answer, err = client.OperationsAPI.GetReadiness(now).Execute()
	answered("get_readiness", answer, err)
	metrics, answer, err := client.OperationsAPI.GetMetrics(now).Execute()
	answered("get_metrics", answer, err)
	check(strings.Contains(metrics, "ranker_ready"), "the metrics are those of the service")

	_, answer, err = client.RankingAPI.Rank(now).RankRequest(*ranker.NewRankRequest("44", []string{})).Execute()
	check(err != nil && answer.StatusCode == 422, "a ranking without candidates is refused")

	names, _ := json.Marshal(called)
	fmt.Println(string(names))
}
