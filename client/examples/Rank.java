// Ranks candidates with the JDK's own client: java client/examples/Rank.java http://localhost:8000

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;

public class Rank {
    public static void main(String[] arguments) throws Exception {
        String url = arguments.length > 0 ? arguments[0] : "http://localhost:8000";
        String body = "{\"user_id\": \"42\", \"candidates\": [\"50\", \"181\", \"no-such-film\"]}";
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        HttpRequest request = HttpRequest.newBuilder(URI.create(url + "/rank"))
            .timeout(Duration.ofSeconds(2))
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(body))
            .build();
        HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
        System.out.println(answer.headers().firstValue("X-AB-Bucket").orElse(""));
        System.out.println(answer.body());
        if (answer.statusCode() != 200) {
            System.exit(1);
        }
    }
}
