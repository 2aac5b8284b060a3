// usage: java Client.java wss://HOST/PATH
// Sends one text, expects it back, and prints "trusted". Prints why if it cannot
// connect. It trusts what the runtime trusts.
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;

public class Client {
    public static void main(String[] args) throws Exception {
        CompletableFuture<String> back = new CompletableFuture<>();
        WebSocket.Listener listener = new WebSocket.Listener() {
            @Override
            public CompletionStage<?> onText(WebSocket ws, CharSequence data, boolean last) {
                back.complete(data.toString());
                return null;
            }

            @Override
            public void onError(WebSocket ws, Throwable error) {
                back.completeExceptionally(error);
            }
        };
        try {
            WebSocket ws = HttpClient.newHttpClient().newWebSocketBuilder().buildAsync(URI.create(args[0]), listener).get(30, TimeUnit.SECONDS);
            ws.sendText("hello from Java", true);
            if (!back.get(30, TimeUnit.SECONDS).equals("hello from Java")) {
                throw new AssertionError("another text came back");
            }
            System.out.println("trusted");
            System.exit(0); // not waiting for the close
        } catch (ExecutionException e) {
            System.out.println(e.getCause());
            System.exit(1);
        }
    }
}
