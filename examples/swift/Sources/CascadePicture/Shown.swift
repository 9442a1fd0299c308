// What a screen shows of one request. Knows no gRPC and no SwiftUI.
import Foundation

/// One moment of a request.
struct Shown: Equatable, Sendable {
    var line: String
    /// From 0 to 1.
    var done: Double = 0
    /// The bytes of the newest picture's file.
    var picture: Data?
    var isOver = false
}

/// The events of a request that a screen cares about.
enum DrawingEvent: Sendable {
    case accepted
    case progress(stage: String, step: Int, of: Int)
    case preview(stage: String, file: Data)
    case result(stage: String, width: Int, height: Int, file: Data)
}

/// The next thing to show after an event.
func shown(after event: DrawingEvent, picture: Data?) -> Shown {
    switch event {
    case .accepted:
        return Shown(line: "accepted", picture: picture)
    case .progress(let stage, let step, let of):
        return Shown(line: "\(stage): step \(step) of \(of)", done: Double(step) / Double(max(of, 1)), picture: picture)
    case .preview(let stage, let file):
        return Shown(line: "\(stage): preview", picture: file)
    case .result(let stage, let width, let height, let file):
        return Shown(line: "\(stage): \(width)x\(height)", picture: file)
    }
}
