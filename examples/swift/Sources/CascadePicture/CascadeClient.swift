// A picture from a prompt, every component on the server (cut 0), over the generated stubs.
import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2

/// Calls to one server.
struct CascadeClient: Sendable {
    let host: String
    let port: Int

    private static let maxResumes = 8
    private static let deadline = Duration.seconds(120)

    /// Everything that a screen shows of one request; a broken connection is resumed by the request's id.
    func draw(_ prompt: String, seed: UInt64, show: @Sendable @escaping (Shown) async -> Void) async throws {
        let transport = try HTTP2ClientTransport.Posix(
            target: .dns(host: host, port: port), transportSecurity: .plaintext  // .tls in an app that you ship
        )
        try await withGRPCClient(transport: transport) { client in
            let service = Cascade_V1_CascadeService.Client(wrapping: client)
            var request = try await Self.request(service, prompt: prompt, seed: seed)
            var picture: Data?
            for attempt in 0...Self.maxResumes {
                do {
                    let sent = request
                    let (held, last) = try await Self.stream(service, sent, picture: picture, show: show)
                    request.resultsHeld += held
                    picture = last
                    await show(Shown(line: "done: \(picture?.count ?? 0) bytes", done: 1, picture: picture, isOver: true))
                    return
                } catch let error as RPCError where error.code == .unavailable && attempt < Self.maxResumes {
                    await show(Shown(line: "resuming", picture: picture))
                }
            }
        }
    }

    /// The request for one picture, in the bundle that the server hosts.
    private static func request(
        _ service: Cascade_V1_CascadeService.Client<some ClientTransport>, prompt: String, seed: UInt64
    ) async throws -> EdgeCascadeGenerateRequest {
        let info = try await service.getServerInfo(EdgeCascadeGetServerInfoRequest())
        var request = EdgeCascadeGenerateRequest()
        request.requestID = UUID().uuidString
        request.bundleID = info.bundleIds[0]
        request.prompt.prompt = prompt
        request.seed = seed
        request.output.format = .jpeg
        request.output.previews = 2
        request.lingerSeconds = 10
        return request
    }

    /// One call of `Generate`: how many results it gave, and the newest picture.
    private static func stream(
        _ service: Cascade_V1_CascadeService.Client<some ClientTransport>, _ request: EdgeCascadeGenerateRequest,
        picture: Data?, show: @Sendable @escaping (Shown) async -> Void
    ) async throws -> (UInt32, Data?) {
        var options = CallOptions.defaults
        options.timeout = deadline
        return try await service.generate(request, options: options) { response in
            var (held, newest): (UInt32, Data?) = (0, picture)
            for try await message in response.messages {
                guard let event = DrawingEvent(message) else { continue }
                if case .result = event { held += 1 }
                let next = shown(after: event, picture: newest)
                newest = next.picture
                await show(next)
            }
            return (held, newest)
        }
    }
}

extension DrawingEvent {
    /// The event in a message of the stream; nil for those that no screen shows.
    init?(_ message: EdgeCascadeGenerateResponse) {
        switch message.event {
        case .accepted:
            self = .accepted
        case .progress(let step):
            self = .progress(stage: step.stage, step: Int(step.step), of: Int(step.of))
        case .preview(let preview):
            self = .preview(stage: preview.stage, file: preview.image.data)
        case .stageResult(let result) where result.hasImage:
            let image = result.image
            self = .result(stage: result.stage, width: Int(image.width), height: Int(image.height), file: image.data)
        default:
            return nil
        }
    }
}
