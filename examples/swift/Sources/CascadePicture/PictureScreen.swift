// One screen: address, prompt and seed, a button, and the picture as it grows.
#if canImport(SwiftUI) && canImport(UIKit)
import SwiftUI
import UIKit

struct PictureScreen: View {
    @State private var host = "127.0.0.1"
    @State private var port = 7860
    @State private var prompt = "a red apple, noto style"
    @State private var seed = 0
    @State private var shown = Shown(line: "")
    @State private var task: Task<Void, Never>?

    var body: some View {
        Form {
            TextField("Server", text: $host)
            TextField("Port", value: $port, format: .number.grouping(.never))
            TextField("Prompt", text: $prompt)
            TextField("Seed", value: $seed, format: .number.grouping(.never))
            Button(task == nil ? "Draw" : "Cancel", action: press)
            ProgressView(value: shown.done)
            Text(shown.line)
            if let data = shown.picture, let picture = UIImage(data: data) {
                Image(uiImage: picture).resizable().scaledToFit().accessibilityLabel(prompt)
            }
        }
    }

    private func press() {
        if let task {
            task.cancel()
            self.task = nil
            return
        }
        let client = CascadeClient(host: host, port: port)
        task = Task {
            do {
                try await client.draw(prompt, seed: UInt64(max(seed, 0))) { next in
                    await MainActor.run { shown = next }
                }
            } catch {
                shown = Shown(line: String(describing: error), picture: shown.picture, isOver: true)
            }
            task = nil
        }
    }
}
#endif
